//! Tests of passwords.

use std::future::{Future, poll_fn};
use std::net::SocketAddr;

use futures_util::FutureExt as _;

use super::*;
use crate::account::on_behalf_of;

#[tokio::test]
async fn right_passwords_are_remembered_and_wrong_ones_are_not() {
    let passwords = Passwords::default();
    let hash = passwords.hash("pw").await.unwrap();
    assert!(hash.starts_with("$2a$10$"), "{hash}");
    for _ in 0..2 {
        assert!(passwords.check(&hash, "pw").await.unwrap());
        assert!(!passwords.check(&hash, "pw2").await.unwrap());
    }
    assert_eq!(passwords.hashing.verified.len(), 1);
    assert!(!passwords.check("no hash", "pw").await.unwrap());
}

/// The hashes were recorded from etcd 3.4.23.
#[tokio::test]
async fn etcds_hashes_are_understood() {
    let passwords = Passwords::default();
    let hash = "$2a$10$PwPd3zjtoYg28WGP2xzIaOIBIHW6k8mloTkgMGCLbfOBjuW46o0nS";
    assert!(passwords.check(hash, "jp").await.unwrap());
}

/// etcd 3.4.23 verifies so; the rest of a longer password has no effect.
#[tokio::test]
async fn bytes_after_the_72nd_do_not_count() {
    let passwords = Passwords::with_cost(4);
    let long = "x".repeat(72);
    let hash = passwords.hash(&long).await.unwrap();
    for (password, matches) in [
        (format!("{long}y"), true),
        // The first byte of the last character is the 72nd.
        (format!("{}é", "x".repeat(71)), false),
        ("x".repeat(71), false),
        (format!("x\0{}", "x".repeat(70)), false),
        (String::new(), false),
    ] {
        assert_eq!(passwords.check(&hash, &password).await, Ok(matches));
    }
    let split = format!("{}é", "x".repeat(71));
    let hash = passwords.hash(&split).await.unwrap();
    assert_eq!(passwords.check(&hash, &split).await, Ok(true));
}

/// When a password of many clients was forgotten, each of their logins cost a hash.
#[tokio::test]
async fn logins_at_once_with_one_password_cost_one_hash() {
    let passwords = Passwords::with_cost(4);
    let hash = passwords.hash("pw").await.unwrap();
    for (password, is_valid) in [("pw", true), ("wrong", false)] {
        let release = occupied(&passwords).await;
        let mut logins: Vec<_> = (0..300)
            .map(|_| Box::pin(passwords.check(&hash, password)))
            .collect();
        for login in &mut logins {
            assert!(login.now_or_never().is_none());
        }
        let turns = &passwords.hashing.turns;
        assert_eq!((turns.in_work(), turns.waiting()), (LIMITS.in_work, 1));
        // The one that began it is gone.
        drop(logins.swap_remove(0));
        for _ in 0..LIMITS.in_work {
            release.send(()).unwrap();
        }
        for login in logins {
            assert_eq!(login.await, Ok(is_valid));
        }
    }
    assert!(passwords.check(&hash, "pw").await.unwrap());
    assert!(passwords.flights.lock().len() <= 1);
}

/// Takes all turns, each until something is sent.
async fn occupied(passwords: &Passwords) -> std::sync::mpsc::Sender<()> {
    let (begun, mut begins) = tokio::sync::mpsc::unbounded_channel();
    let (release, held) = std::sync::mpsc::channel::<()>();
    let held = Arc::new(Mutex::new(held));
    for _ in 0..LIMITS.in_work {
        let (begun, held) = (begun.clone(), Arc::clone(&held));
        let work = passwords.hashing.run(move || {
            let _ = begun.send(());
            let _ = held.lock().recv();
        });
        tokio::select! {
            biased;
            _ = work => panic!("it is held"),
            _ = begins.recv() => {}
        }
    }
    release
}

/// Clients that leave must not make more hashes run at a time.
#[tokio::test]
async fn a_cancelled_request_keeps_its_turn_until_its_work_is_done() {
    let passwords = Passwords::default();
    let release = occupied(&passwords).await;
    assert_eq!(passwords.hashing.turns.in_work(), LIMITS.in_work);
    {
        let mut waiting: Vec<_> = (0..256)
            .map(|_| Box::pin(passwords.hashing.run(|| ())))
            .collect();
        for work in &mut waiting {
            assert!(work.now_or_never().is_none());
        }
        assert_eq!(
            passwords.hashing.run(|| ()).await,
            Err(Error::TooManyRequests)
        );
    }
    for _ in 0..LIMITS.in_work {
        release.send(()).unwrap();
    }
    assert_eq!(passwords.hashing.run(|| ()).await, Ok(()));
}

/// The other client's login waited for all of them.
#[tokio::test]
async fn wrong_passwords_of_one_connection_do_not_hold_up_anothers_login() {
    let passwords = Arc::new(Passwords::with_cost(4));
    let right = passwords.hash("pw").await.unwrap();
    // Each takes a long time.
    let slow = bcrypt::hash("x", 8).unwrap();
    let crowd: Vec<_> = (0..60)
        .map(|number| {
            let (passwords, slow) = (Arc::clone(&passwords), slow.clone());
            tokio::spawn(of(1, async move {
                passwords.check(&slow, &format!("wrong {number}")).await
            }))
        })
        .collect();
    let all_wait = async {
        while passwords.hashing.turns.waiting() < 58 {
            task::yield_now().await;
        }
    };
    crate::tests::within(all_wait).await;
    let login = of(2, async { passwords.check(&right, "pw").await });
    assert!(crate::tests::within(login).await.unwrap());
    assert!(
        40 < passwords.hashing.turns.waiting(),
        "few of the others had their turn"
    );
    for login in crowd {
        login.abort();
    }
}

/// Polls the future on behalf of a client with that port.
async fn of<T>(port: u16, login: impl Future<Output = T>) -> T {
    let client = SocketAddr::from(([127, 0, 0, 1], port));
    let mut login = Box::pin(login);
    poll_fn(move |cx| on_behalf_of(client, || login.as_mut().poll(cx))).await
}
