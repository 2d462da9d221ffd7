//! Keys, signatures and claims of JWT tokens.

use super::*;

const RSA: &str = include_str!("keys/rsa.pem");
const RSA_PUB: &str = include_str!("keys/rsa-pub.pem");
const RSA_PKCS1: &str = include_str!("keys/rsa-pkcs1.pem");
const P256: &str = include_str!("keys/p256.pem");
const P256_PKCS8: &str = include_str!("keys/p256-pkcs8.pem");
const P256_PUB: &str = include_str!("keys/p256-pub.pem");
const P384: &str = include_str!("keys/p384.pem");
const P384_PUB: &str = include_str!("keys/p384-pub.pem");
const P521: &str = include_str!("keys/p521.pem");
const P521_PKCS8: &str = include_str!("keys/p521-pkcs8.pem");
const P521_PUB: &str = include_str!("keys/p521-pub.pem");
const ED: &str = include_str!("keys/ed.pem");
const ED_PUB: &str = include_str!("keys/ed-pub.pem");

/// Recorded from etcd 3.4.23 with these keys: of the user root at revision 3.
const OF_ETCD: &str = include_str!("tokens_of_etcd.txt");

const NOW: Duration = Duration::from_secs(1_795_994_000);
const END: Duration = Duration::from_secs(1_795_994_900);

fn keys(method: &str, public: Option<&str>, private: Option<&str>) -> Result<JwtKeys, JwtError> {
    let method = JwtMethod::named(method).expect(method);
    let (public, private) = (public.map(str::as_bytes), private.map(str::as_bytes));
    JwtKeys::new(method, public, private)
}

fn claims() -> JwtClaims {
    JwtClaims {
        username: "root".to_owned(),
        revision: 3,
    }
}

fn with_claims(signer: &JwtKeys, header: &str, claims: &str) -> String {
    let signed = format!("{}.{}", BASE64.encode(header), BASE64.encode(claims));
    let signer = signer.signer.as_ref().expect("a private key");
    let signature = signer.sign(signed.as_bytes()).expect("a signature");
    format!("{signed}.{}", BASE64.encode(signature))
}

/// A method, the public keys and the private keys in their forms.
type Pairs = (&'static str, &'static str, &'static [&'static str]);

const PAIRS: [Pairs; 10] = [
    ("RS256", RSA_PUB, &[RSA, RSA_PKCS1]),
    ("RS384", RSA_PUB, &[RSA]),
    ("RS512", RSA_PUB, &[RSA]),
    ("PS256", RSA_PUB, &[RSA]),
    ("PS384", RSA_PUB, &[RSA]),
    ("PS512", RSA_PUB, &[RSA_PKCS1]),
    ("ES256", P256_PUB, &[P256, P256_PKCS8]),
    ("ES384", P384_PUB, &[P384]),
    ("ES512", P521_PUB, &[P521, P521_PKCS8]),
    ("EdDSA", ED_PUB, &[ED]),
];

#[test]
fn every_method_signs_and_verifies_and_a_public_key_alone_verifies() {
    for (method, public, privates) in PAIRS {
        let verifier = keys(method, Some(public), None).expect(method);
        assert_eq!(verifier.signed(&claims(), END), None, "{method}");
        for private in privates {
            let signer = keys(method, Some(public), Some(private)).expect(method);
            let token = signer.signed(&claims(), END).expect(method);
            for keys in [
                &verifier,
                &signer,
                &keys(method, None, Some(private)).unwrap(),
            ] {
                assert_eq!(keys.verified(&token, NOW), Some(claims()), "{method}");
                assert_eq!(keys.verified(&token, END), None, "{method}: it has ended");
                let other = token.replace("ey", "ez");
                assert_eq!(keys.verified(&other, NOW), None);
                assert_eq!(keys.verified(&token[..token.len() - 4], NOW), None);
            }
        }
    }
    for method in ["HS256", "HS384", "HS512"] {
        let signer = keys(method, None, Some("secret")).unwrap();
        let token = signer.signed(&claims(), END).unwrap();
        assert_eq!(signer.verified(&token, NOW), Some(claims()));
        let other = keys(method, None, Some("other")).unwrap();
        assert_eq!(other.verified(&token, NOW), None);
    }
}

#[test]
fn tokens_of_etcd_are_understood() {
    for line in OF_ETCD.lines() {
        let (method, token) = line.split_once(' ').expect("method and token");
        let private = match method {
            "ES384" => P384,
            "ES512" => P521,
            _ => RSA,
        };
        let keys = keys(method, None, Some(private)).unwrap();
        assert_eq!(keys.verified(token, NOW), Some(claims()), "{method}");
        // Header and claims are written as Go writes them.
        let own = keys
            .signed(&claims(), Duration::from_secs(1_795_994_935))
            .unwrap();
        let of = |token: &str| token.split('.').next().map(str::to_owned);
        assert_eq!(of(&own), of(token));
    }
    assert_eq!(OF_ETCD.lines().count(), 5);
}

/// RFC 8725, 2.1: the header must not choose how the token is verified.
#[test]
fn a_token_of_another_algorithm_is_refused() {
    let verifier = keys("RS256", Some(RSA_PUB), None).unwrap();
    let body = r#"{"exp":1795994900,"revision":3,"username":"root"}"#;
    // The public key as a secret.
    let confused = keys("HS256", None, Some(RSA_PUB)).unwrap();
    for header in [r#"{"alg":"HS256"}"#, r#"{"alg":"RS256"}"#] {
        let token = with_claims(&confused, header, body);
        assert_eq!(verifier.verified(&token, NOW), None);
    }
    let signer = keys("RS256", None, Some(RSA)).unwrap();
    for header in [
        r#"{"alg":"none"}"#,
        r#"{"alg":"RS512"}"#,
        r#"{"alg":"PS256"}"#,
        r#"{"alg":"rs256"}"#,
        r#"{"typ":"JWT"}"#,
        r#"{"alg":"RS256","crit":["x"]}"#,
        r#"{"alg":7}"#,
        "[]",
        "",
    ] {
        let token = with_claims(&signer, header, body);
        assert_eq!(verifier.verified(&token, NOW), None, "{header}");
    }
    let unsigned = format!(
        "{}.{}.",
        BASE64.encode(r#"{"alg":"none"}"#),
        BASE64.encode(body)
    );
    assert_eq!(verifier.verified(&unsigned, NOW), None);
    let good = with_claims(&signer, r#"{"alg":"RS256"}"#, body);
    assert_eq!(verifier.verified(&good, NOW), Some(claims()));
    for long in [
        good.clone() + "=",
        format!("{good}.a"),
        "x".repeat(20 << 10),
    ] {
        assert_eq!(verifier.verified(&long, NOW), None);
    }
}

#[test]
fn claims_are_read_as_etcd_reads_them() {
    let signer = keys("EdDSA", None, Some(ED)).unwrap();
    let read = |body: &str| {
        let token = with_claims(&signer, r#"{"alg":"EdDSA"}"#, body);
        signer.verified(&token, NOW)
    };
    for good in [
        r#"{"revision":3,"username":"root"}"#,
        r#"{"revision":3.0,"username":"root","iat":1,"other":{}}"#,
        r#"{"revision":3,"username":"root","nbf":1795994000,"exp":1795994000.5}"#,
    ] {
        assert_eq!(read(good), Some(claims()), "{good}");
    }
    for bad in [
        r#"{"username":"root"}"#,
        r#"{"revision":3}"#,
        r#"{"revision":"3","username":"root"}"#,
        r#"{"revision":-1,"username":"root"}"#,
        r#"{"revision":3,"username":7}"#,
        r#"{"revision":3,"username":"root","exp":"never"}"#,
        r#"{"revision":3,"username":"root","exp":1795993999}"#,
        r#"{"revision":3,"username":"root","nbf":1795994001}"#,
        "[]",
        "",
    ] {
        assert_eq!(read(bad), None, "{bad}");
    }
}

#[test]
fn keys_that_do_not_fit_are_refused() {
    let wrong =
        |result: Result<JwtKeys, JwtError>| matches!(result, Err(JwtError::NotOfMethod(..)));
    assert!(wrong(keys("ES256", Some(RSA_PUB), None)));
    assert!(wrong(keys("RS256", Some(P256_PUB), None)));
    assert!(wrong(keys("ES384", Some(P256_PUB), None)));
    assert!(wrong(keys("ES256", None, Some(P384))));
    assert!(wrong(keys("RS256", Some(RSA), None)));
    assert!(wrong(keys("EdDSA", None, Some(RSA))));
    assert!(wrong(keys("RS256", None, Some("no PEM"))));
    for (method, public, private) in [("RS256", None, None), ("HS256", Some(RSA_PUB), None)] {
        assert_eq!(keys(method, public, private).err(), Some(JwtError::Missing));
    }
    assert!(JwtMethod::named("none").is_none() && JwtMethod::named("RS1").is_none());
    for (method, ..) in PAIRS {
        assert_eq!(
            JwtMethod::named(method).map(JwtMethod::name).as_deref(),
            Some(method)
        );
    }
}

#[test]
fn a_public_key_of_another_private_key_is_refused() {
    let generated = |name: &str| keys("ES256", Some(P256_PUB), Some(name)).err();
    assert_eq!(generated(P256), None);
    let other = include_str!("keys/p256-other.pem");
    assert_eq!(generated(other), Some(JwtError::Mismatch));
}
