//! `etcdserverpb.Auth`: logins, and changes of users, roles and permissions. Rights themselves are
//! checked behind `Backend`, at the request and again when it is applied.

mod jwt;
mod sessions;
mod tokens;

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use keelson_core::state::Error as StateError;
use keelson_core::state::auth::{Access, Caller};
use keelson_proto::etcdserverpb::auth_server;
use keelson_proto::etcdserverpb::*;
use keelson_proto::internal::auth_change::Op;
use keelson_proto::internal::{AuthChange, AuthEnable, AuthSecret};
use ring::rand::SecureRandom;
use tonic::{Request, Response, Status};

pub(crate) use self::jwt::JwtClaims;
pub use self::jwt::{JwtError, JwtHash, JwtKeys, JwtMethod};
pub(super) use self::sessions::Sessions;
pub(crate) use self::tokens::Claims;
pub use self::tokens::{SeenTokens, TokenSignature};
use crate::Error;
use crate::backend::Backend;
use crate::passwords::Passwords;

/// The size of the key that signs tokens, in bytes.
const SECRET_BYTES: usize = 32;

/// Go's bcrypt refuses longer passwords, of which the rest would be without effect.
const PASSWORD_BYTES_MAX: usize = 72;

/// etcd's text for a login at a member without a private key.
const VERIFY_ONLY: &str = "auth: token signing attempted with verify-only key";

/// etcd's text for a login of a user that has no password.
const NO_PASSWORD: &str = "auth: authentication failed, password was given for no password user";

/// The gRPC service.
pub(super) struct AuthService<B> {
    sessions: Sessions<B>,
    passwords: Arc<Passwords>,
}

impl<B: Backend> AuthService<B> {
    pub(super) fn new(sessions: Sessions<B>) -> AuthService<B> {
        let cost = sessions.anonymous().bcrypt_cost();
        AuthService {
            sessions,
            passwords: Arc::new(Passwords::with_cost(cost)),
        }
    }

    /// Proposes a change for the caller of a request.
    async fn change<T>(
        &self,
        request: Request<T>,
        op: impl FnOnce(T) -> Op,
    ) -> Result<Option<ResponseHeader>, Status> {
        let backend = self.sessions.of(&request).await?;
        let op = Some(op(request.into_inner()));
        Ok(Some(backend.auth_change(AuthChange { op }).await?))
    }

    /// The bcrypt hash of a new password. Only for callers that may use it: hashing takes long.
    async fn hashed(&self, backend: &B, password: &str, given: &str) -> Result<String, Error> {
        backend.authorize_now(Access::Root).await?;
        if !given.is_empty() {
            let hash = BASE64.decode(given).ok().map(String::from_utf8);
            return match hash {
                Some(Ok(hash)) => Ok(hash),
                _ => Err(Error::Internal(
                    "keelson: hashedPassword is not base64".to_owned(),
                )),
            };
        }
        if PASSWORD_BYTES_MAX < password.len() {
            let text = "bcrypt: password length exceeds 72 bytes";
            return Err(Error::Internal(text.to_owned()));
        }
        self.passwords.hash(password).await
    }

    /// Checks a password and issues a token.
    async fn log_in(&self, request: &AuthenticateRequest) -> Result<String, Error> {
        let backend = self.sessions.anonymous();
        // A user that another member has just added can log in here.
        backend.read_index().await?;
        let auth = backend.auth();
        if !auth.enabled {
            return Err(Error::AuthNotEnabled);
        }
        let refused = || Error::AuthFailed;
        let user = auth.user(&request.name).ok_or_else(refused)?;
        let hash = user.password.as_ref();
        let hash = hash.ok_or_else(|| Error::Internal(NO_PASSWORD.to_owned()))?;
        let hash = std::str::from_utf8(hash).map_err(|_| refused())?;
        if !self.passwords.check(hash, &request.password).await? {
            return Err(refused());
        }
        if let Some((keys, ttl)) = backend.jwt() {
            let claims = JwtClaims {
                username: request.name.clone(),
                revision: auth.revision,
            };
            let token = keys.signed(&claims, sessions::now() + ttl);
            return token.ok_or_else(|| Error::Internal(VERIFY_ONLY.to_owned()));
        }
        let secret = match auth.secret.is_empty() {
            true => self.agree_on_secret().await?,
            false => auth.secret.clone(),
        };
        let claims = Claims {
            name: request.name.clone(),
            since: user.since,
            applied: backend.raft_status().applied,
            issued: sessions::now(),
        };
        Ok(claims.signed(&secret))
    }

    /// Gives the cluster a key for tokens: one that was restored from a snapshot has none.
    ///
    /// # Errors
    /// `AuthNotEnabled`: auth has been disabled meanwhile.
    async fn agree_on_secret(&self) -> Result<Bytes, Error> {
        // Not the client's request.
        let member = self.sessions.anonymous().acting_as(Caller::Member);
        let op = Some(Op::SetSecret(AuthSecret { secret: secret()? }));
        member.auth_change(AuthChange { op }).await?;
        let auth = member.auth();
        match auth.secret.is_empty() {
            true => Err(Error::AuthNotEnabled),
            false => Ok(auth.secret.clone()),
        }
    }

    /// A handle of the caller that has applied what is committed now.
    async fn reader<T>(&self, request: &Request<T>) -> Result<B, Status> {
        let backend = self.sessions.of(request).await?;
        backend.read_index().await?;
        Ok(backend)
    }
}

/// A new key for tokens.
fn secret() -> Result<Bytes, Error> {
    let mut secret = vec![0; SECRET_BYTES];
    let random = ring::rand::SystemRandom::new();
    let drawn = random.fill(&mut secret);
    drawn.map_err(|_| Error::Internal("no randomness from the system".to_owned()))?;
    Ok(secret.into())
}

#[tonic::async_trait]
impl<B: Backend> auth_server::Auth for AuthService<B> {
    async fn auth_enable(
        &self,
        request: Request<AuthEnableRequest>,
    ) -> Result<Response<AuthEnableResponse>, Status> {
        let secret = secret()?;
        let header = self
            .change(request, |_| Op::Enable(AuthEnable { secret }))
            .await?;
        Ok(Response::new(AuthEnableResponse { header }))
    }

    async fn auth_disable(
        &self,
        request: Request<AuthDisableRequest>,
    ) -> Result<Response<AuthDisableResponse>, Status> {
        let header = self.change(request, Op::Disable).await?;
        Ok(Response::new(AuthDisableResponse { header }))
    }

    async fn auth_status(
        &self,
        request: Request<AuthStatusRequest>,
    ) -> Result<Response<AuthStatusResponse>, Status> {
        let backend = self.reader(&request).await?;
        let auth = backend.auth();
        Ok(Response::new(AuthStatusResponse {
            header: Some(backend.header()),
            enabled: auth.enabled,
            auth_revision: auth.revision,
        }))
    }

    async fn authenticate(
        &self,
        request: Request<AuthenticateRequest>,
    ) -> Result<Response<AuthenticateResponse>, Status> {
        if self.sessions.anonymous().is_fenced() {
            return Err(Error::from(StateError::Corrupt).into());
        }
        let token = self.log_in(request.get_ref()).await?;
        Ok(Response::new(AuthenticateResponse {
            header: Some(self.sessions.anonymous().header()),
            token,
        }))
    }

    async fn user_add(
        &self,
        mut request: Request<AuthUserAddRequest>,
    ) -> Result<Response<AuthUserAddResponse>, Status> {
        let backend = self.sessions.of(&request).await?;
        let user = request.get_mut();
        let options = user.options.unwrap_or_default();
        if user.name.is_empty() {
            return Err(Error::from(StateError::UserEmpty).into());
        }
        if !options.no_password {
            let hashed = self.hashed(&backend, &user.password, &user.hashed_password);
            user.hashed_password = hashed.await?;
        }
        user.password.clear();
        let header = self.change(request, Op::UserAdd).await?;
        Ok(Response::new(AuthUserAddResponse { header }))
    }

    async fn user_get(
        &self,
        request: Request<AuthUserGetRequest>,
    ) -> Result<Response<AuthUserGetResponse>, Status> {
        let backend = self.reader(&request).await?;
        let name = request.into_inner().name;
        backend.authorize(Access::UserGet(&name))?;
        let auth = backend.auth();
        let user = auth.user(&name);
        let user = user.ok_or(Error::from(StateError::UserNotFound))?;
        Ok(Response::new(AuthUserGetResponse {
            header: Some(backend.header()),
            roles: user.roles.clone(),
        }))
    }

    async fn user_list(
        &self,
        request: Request<AuthUserListRequest>,
    ) -> Result<Response<AuthUserListResponse>, Status> {
        let backend = self.reader(&request).await?;
        backend.authorize(Access::Root)?;
        Ok(Response::new(AuthUserListResponse {
            header: Some(backend.header()),
            users: backend.auth().user_names().cloned().collect(),
        }))
    }

    async fn user_delete(
        &self,
        request: Request<AuthUserDeleteRequest>,
    ) -> Result<Response<AuthUserDeleteResponse>, Status> {
        let header = self.change(request, Op::UserDelete).await?;
        Ok(Response::new(AuthUserDeleteResponse { header }))
    }

    async fn user_change_password(
        &self,
        mut request: Request<AuthUserChangePasswordRequest>,
    ) -> Result<Response<AuthUserChangePasswordResponse>, Status> {
        let backend = self.sessions.of(&request).await?;
        let user = request.get_mut();
        let hashed = self.hashed(&backend, &user.password, &user.hashed_password);
        user.hashed_password = hashed.await?;
        user.password.clear();
        let header = self.change(request, Op::UserChangePassword).await?;
        Ok(Response::new(AuthUserChangePasswordResponse { header }))
    }

    async fn user_grant_role(
        &self,
        request: Request<AuthUserGrantRoleRequest>,
    ) -> Result<Response<AuthUserGrantRoleResponse>, Status> {
        let header = self.change(request, Op::UserGrantRole).await?;
        Ok(Response::new(AuthUserGrantRoleResponse { header }))
    }

    async fn user_revoke_role(
        &self,
        request: Request<AuthUserRevokeRoleRequest>,
    ) -> Result<Response<AuthUserRevokeRoleResponse>, Status> {
        let header = self.change(request, Op::UserRevokeRole).await?;
        Ok(Response::new(AuthUserRevokeRoleResponse { header }))
    }

    async fn role_add(
        &self,
        request: Request<AuthRoleAddRequest>,
    ) -> Result<Response<AuthRoleAddResponse>, Status> {
        let header = self.change(request, Op::RoleAdd).await?;
        Ok(Response::new(AuthRoleAddResponse { header }))
    }

    async fn role_get(
        &self,
        request: Request<AuthRoleGetRequest>,
    ) -> Result<Response<AuthRoleGetResponse>, Status> {
        let backend = self.reader(&request).await?;
        let name = request.into_inner().role;
        backend.authorize(Access::RoleGet(&name))?;
        let auth = backend.auth();
        let role = auth.role(&name);
        let role = role.ok_or(Error::from(StateError::RoleNotFound))?;
        Ok(Response::new(AuthRoleGetResponse {
            header: Some(backend.header()),
            // As in etcd, of root as well: what it may do besides is not among them.
            perm: role.permissions.clone(),
        }))
    }

    async fn role_list(
        &self,
        request: Request<AuthRoleListRequest>,
    ) -> Result<Response<AuthRoleListResponse>, Status> {
        let backend = self.reader(&request).await?;
        backend.authorize(Access::Root)?;
        Ok(Response::new(AuthRoleListResponse {
            header: Some(backend.header()),
            roles: backend.auth().role_names().cloned().collect(),
        }))
    }

    async fn role_delete(
        &self,
        request: Request<AuthRoleDeleteRequest>,
    ) -> Result<Response<AuthRoleDeleteResponse>, Status> {
        let header = self.change(request, Op::RoleDelete).await?;
        Ok(Response::new(AuthRoleDeleteResponse { header }))
    }

    async fn role_grant_permission(
        &self,
        request: Request<AuthRoleGrantPermissionRequest>,
    ) -> Result<Response<AuthRoleGrantPermissionResponse>, Status> {
        let header = self.change(request, Op::RoleGrantPermission).await?;
        Ok(Response::new(AuthRoleGrantPermissionResponse { header }))
    }

    async fn role_revoke_permission(
        &self,
        request: Request<AuthRoleRevokePermissionRequest>,
    ) -> Result<Response<AuthRoleRevokePermissionResponse>, Status> {
        let header = self.change(request, Op::RoleRevokePermission).await?;
        Ok(Response::new(AuthRoleRevokePermissionResponse { header }))
    }
}
