//! The only place where errors become statuses: RFC 9457 problem documents.

use axum::Json;
use axum::extract::rejection::{JsonRejection, PathRejection, QueryRejection};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::auth::AuthError;
use crate::auth::password::PasswordError;
use crate::blobs::BlobError;
use crate::cluster::ControlError;
use crate::job::{Refusal, RefusalCode};
use crate::store::LedgerError;
use crate::webhooks::TargetError;

/// Seconds after which a client may try again when something is restarting.
const RETRY_SOON_S: u64 = 5;

/// Every kind of problem there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// An input that is refused.
    Refused(RefusalCode),
    /// A parameter or header with a value that makes no sense.
    InvalidParameter,
    /// A body that is no JSON of the expected shape.
    InvalidJson,
    /// A body that is no well-formed multipart.
    InvalidMultipart,
    /// A multipart body without a `file` part.
    MissingFile,
    /// The body ended before its announced length.
    IncompleteBody,
    /// More parts than one request may have.
    TooManyParts,
    /// Same key, other request.
    IdempotencyKeyReused,
    /// The Host header is not this machine.
    HostNotAllowed,
    /// The request was caused by a page of another site.
    OriginNotAllowed,
    /// Nobody has logged in.
    LoginRequired,
    /// Name or password; which is not said.
    WrongLogin,
    /// The current password, of somebody who has logged in.
    WrongPassword,
    /// A page did not say that it means the request.
    CsrfHeaderMissing,
    /// The account has not the role.
    AdministratorsOnly,
    /// The token has not the scope.
    ScopeMissing,
    /// Nobody may register.
    RegistrationClosed,
    /// Registration is by invitation.
    NotInvited,
    /// Somebody has that name.
    UsernameTaken,
    /// A name with other characters than it may have.
    InvalidUsername,
    /// A password that may not be used.
    PasswordRefused,
    /// As many rows of a kind as there may be.
    TooMany,
    /// Too many tries in too short a time.
    TooManyTries,
    /// The user stores as much as they may.
    StorageQuota,
    /// The user has processed as much as they may in a day.
    PixelQuota,
    /// As many jobs of the user as may be are under way.
    JobQuota,
    /// An administrator has disabled the account.
    AccountDisabled,
    /// Nobody would be left to look after the server.
    LastAdministrator,
    /// The server runs in `open` mode.
    NoAccounts,
    /// Nothing there, or somebody else's.
    NotFound,
    /// The path is there, the method is not.
    MethodNotAllowed,
    /// The client was too slow.
    RequestTimeout,
    /// The state does not allow it.
    WrongState,
    /// A body of a media type that is not read here.
    UnsupportedMediaType,
    /// No byte of the file lies in the range.
    RangeNotSatisfiable,
    /// More slots than a node may have.
    TooManySlots,
    /// The signature of a URL does not stand for the request.
    UrlNotValid,
    /// The URL has expired.
    UrlExpired,
    /// The bytes of an announced upload are not there yet.
    NotUploaded,
    /// The bytes of an announced upload are there already.
    AlreadyUploaded,
    /// The bytes are not those that were announced.
    UploadDiffers,
    /// Enough uploads are announced.
    TooManyUploads,
    /// Another request adds to the upload.
    UploadLocked,
    /// The bytes of a request do not begin where those of the upload end.
    OffsetDiffers,
    /// The bytes of a request are not those that its checksum stands for.
    ChecksumDiffers,
    /// Another version of the protocol for uploads in pieces, or none.
    TusVersion,
    /// A URL that no webhook may have.
    WebhookUrl,
    /// A webhook whose name stands for an address that it may not have.
    WebhookAddress,
    /// A webhook whose name stands for nothing.
    WebhookUnresolved,
    /// The webhook is off.
    WebhookOff,
    /// Request line and headers are too long.
    HeadersTooLarge,
    /// A fault of ours.
    Internal,
    /// Enough unfinished jobs.
    QueueFull,
    /// Enough requests, uploads or streams at once.
    Overloaded,
    /// A part of the server is starting, stopping or cannot be reached.
    Unavailable,
    /// The node takes no jobs.
    NotReady,
    /// The disk is nearly full.
    StorageFull,
}

impl Kind {
    /// Status, `code` and `title`: the whole policy at a glance.
    #[expect(clippy::too_many_lines, reason = "a table, a row for each problem")]
    fn entry(self) -> (StatusCode, &'static str, &'static str) {
        use StatusCode as S;
        match self {
            Self::Refused(code) => {
                let (status, title) = refused(code);
                (status, code.as_str(), title)
            }
            Self::InvalidParameter => (S::BAD_REQUEST, "invalid_parameter", "A parameter is not valid"),
            Self::InvalidJson => (S::BAD_REQUEST, "invalid_json", "The body is not the expected JSON"),
            Self::InvalidMultipart => (S::BAD_REQUEST, "invalid_multipart", "The multipart body is not well formed"),
            Self::MissingFile => (S::UNPROCESSABLE_ENTITY, "missing_file", "There is no file in the request"),
            Self::IncompleteBody => (S::BAD_REQUEST, "incomplete_body", "The body ended early"),
            Self::TooManyParts => (S::PAYLOAD_TOO_LARGE, "too_many_parts", "Too many parts in one request"),
            Self::IdempotencyKeyReused => {
                (S::UNPROCESSABLE_ENTITY, "idempotency_key_reused", "The idempotency key stands for another request")
            }
            Self::HostNotAllowed => (S::FORBIDDEN, "host_not_allowed", "This address is not served"),
            Self::OriginNotAllowed => (S::FORBIDDEN, "origin_not_allowed", "Requests of other sites are not taken"),
            Self::LoginRequired => (S::UNAUTHORIZED, "login_required", "A login is needed"),
            Self::WrongLogin => (S::UNAUTHORIZED, "wrong_login", "The name or the password is not right"),
            Self::WrongPassword => (S::FORBIDDEN, "wrong_password", "The password is not right"),
            Self::CsrfHeaderMissing => (S::FORBIDDEN, "csrf_header_missing", "The request may come from another site"),
            Self::AdministratorsOnly => (S::FORBIDDEN, "administrators_only", "Administrators only"),
            Self::ScopeMissing => (S::FORBIDDEN, "scope_missing", "The token may not do this"),
            Self::RegistrationClosed => (S::FORBIDDEN, "registration_closed", "Nobody can register"),
            Self::NotInvited => (S::FORBIDDEN, "not_invited", "Registration is by invitation"),
            Self::UsernameTaken => (S::CONFLICT, "username_taken", "The name is taken"),
            Self::InvalidUsername => (S::UNPROCESSABLE_ENTITY, "invalid_username", "Not a name for an account"),
            Self::PasswordRefused => (S::UNPROCESSABLE_ENTITY, "password_refused", "The password cannot be used"),
            Self::TooMany => (S::UNPROCESSABLE_ENTITY, "too_many", "There are as many as there may be"),
            Self::TooManyTries => (S::TOO_MANY_REQUESTS, "too_many_tries", "Too many tries"),
            Self::StorageQuota => (S::TOO_MANY_REQUESTS, "storage_quota_reached", "You store as much as you may"),
            Self::PixelQuota => (S::TOO_MANY_REQUESTS, "pixel_quota_reached", "Enough for one day"),
            Self::JobQuota => (S::TOO_MANY_REQUESTS, "job_quota_reached", "Enough of your jobs are under way"),
            Self::AccountDisabled => (S::FORBIDDEN, "account_disabled", "The account is disabled"),
            Self::LastAdministrator => (S::CONFLICT, "last_administrator", "One administrator must be left"),
            Self::NoAccounts => (S::CONFLICT, "no_accounts", "This server has no accounts"),
            Self::NotFound => (S::NOT_FOUND, "not_found", "Nothing here"),
            Self::MethodNotAllowed => (S::METHOD_NOT_ALLOWED, "method_not_allowed", "The method is not allowed here"),
            Self::RequestTimeout => (S::REQUEST_TIMEOUT, "request_timeout", "The request took too long"),
            Self::WrongState => (S::CONFLICT, "wrong_state", "The job's state does not allow this"),
            Self::UnsupportedMediaType => {
                (S::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", "A body of this type is not read here")
            }
            Self::RangeNotSatisfiable => {
                (S::RANGE_NOT_SATISFIABLE, "range_not_satisfiable", "The range lies outside the file")
            }
            Self::UrlNotValid => (S::FORBIDDEN, "url_not_valid", "The URL does not allow this"),
            Self::UrlExpired => (S::FORBIDDEN, "url_expired", "The URL has expired"),
            Self::NotUploaded => (S::CONFLICT, "not_uploaded", "The bytes are not there yet"),
            Self::AlreadyUploaded => (S::PRECONDITION_FAILED, "already_uploaded", "The bytes are there already"),
            Self::UploadDiffers => (S::UNPROCESSABLE_ENTITY, "upload_differs", "The bytes are not those announced"),
            Self::TooManyUploads => (S::SERVICE_UNAVAILABLE, "too_many_uploads", "Too many uploads are under way"),
            Self::UploadLocked => (S::LOCKED, "upload_locked", "Another request adds to this upload"),
            Self::OffsetDiffers => (S::CONFLICT, "offset_differs", "The upload goes on at another offset"),
            // No standard one: the protocol's own.
            Self::ChecksumDiffers => (
                S::from_u16(460).unwrap_or(S::BAD_REQUEST),
                "checksum_differs",
                "The bytes are not those of the checksum",
            ),
            Self::TusVersion => (S::PRECONDITION_FAILED, "tus_version", "Another version of tus is spoken here"),
            Self::TooManySlots => (S::UNPROCESSABLE_ENTITY, "too_many_slots", "A node cannot have that many slots"),
            Self::WebhookUrl => (S::UNPROCESSABLE_ENTITY, "webhook_url", "A webhook cannot have this URL"),
            Self::WebhookAddress => (S::UNPROCESSABLE_ENTITY, "webhook_address", "A webhook cannot be at this address"),
            Self::WebhookUnresolved => (S::UNPROCESSABLE_ENTITY, "webhook_unresolved", "The name has no address"),
            Self::WebhookOff => (S::CONFLICT, "webhook_off", "The webhook is off"),
            Self::HeadersTooLarge => {
                (S::REQUEST_HEADER_FIELDS_TOO_LARGE, "headers_too_large", "The headers are too long")
            }
            Self::Internal => (S::INTERNAL_SERVER_ERROR, "internal", "Something went wrong on the server"),
            Self::QueueFull => (S::SERVICE_UNAVAILABLE, "queue_full", "The queue is full"),
            Self::Overloaded => (S::SERVICE_UNAVAILABLE, "overloaded", "The server is busy"),
            Self::Unavailable => (S::SERVICE_UNAVAILABLE, "unavailable", "The server cannot do this at the moment"),
            Self::NotReady => (S::SERVICE_UNAVAILABLE, "not_ready", "This node takes no jobs"),
            Self::StorageFull => (S::INSUFFICIENT_STORAGE, "storage_full", "The disk is nearly full"),
        }
    }
}

/// Status and `title` of an input that is refused.
const fn refused(code: RefusalCode) -> (StatusCode, &'static str) {
    use RefusalCode as R;
    use StatusCode as S;
    match code {
        R::EmptyBody => (S::BAD_REQUEST, "No bytes were sent"),
        R::UnsupportedFormat => (S::UNSUPPORTED_MEDIA_TYPE, "Not an image of a supported kind"),
        R::BodyTooLarge => (S::PAYLOAD_TOO_LARGE, "The upload is too large"),
        R::TooManyPixels => (S::PAYLOAD_TOO_LARGE, "A page has too many pixels"),
        R::SideTooLong => (S::PAYLOAD_TOO_LARGE, "A side of the page is too long"),
        R::TooManyPages => (S::PAYLOAD_TOO_LARGE, "Too many pages"),
        R::NeedsTooMuchMemory => (S::PAYLOAD_TOO_LARGE, "The image needs too much memory"),
        R::Malformed => (S::UNPROCESSABLE_ENTITY, "The image is damaged"),
        R::UnsupportedFeature => (S::UNSUPPORTED_MEDIA_TYPE, "The image uses an unsupported feature"),
        R::UnknownPreset => (S::UNPROCESSABLE_ENTITY, "No such preset"),
        R::InvalidSetting => (S::UNPROCESSABLE_ENTITY, "The preset has no such setting"),
    }
}

/// A problem document (RFC 9457).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(example = json!({
    "type": "urn:inkpool:problem:too_many_pixels", "title": "A page has too many pixels", "status": 413,
    "detail": "The page has 900000000 pixels.", "code": "too_many_pixels",
    "limit": "100000000 px", "measured": "900000000 px", "remedy": "Scan at a lower resolution."
}))]
pub struct Problem {
    /// `urn:inkpool:problem:` and the code.
    #[serde(rename = "type")]
    pub kind: String,
    /// What kind of problem, for people.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What happened this time, for people.
    pub detail: String,
    /// What kind of problem, for programs.
    pub code: String,
    /// The limit hit, with its unit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<String>,
    /// What was measured, in the unit of the limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub measured: Option<String>,
    /// What the sender can do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
    /// One sentence for each reason, where there can be several.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<String>,
    /// Becomes the `Retry-After` header, seconds.
    #[serde(skip)]
    pub retry_after_s: Option<u64>,
}

impl Problem {
    /// A problem without figures.
    #[must_use]
    pub fn new(kind: Kind, detail: impl Into<String>) -> Self {
        let (status, code, title) = kind.entry();
        Self {
            kind: format!("urn:inkpool:problem:{code}"),
            title: title.to_owned(),
            status: status.as_u16(),
            detail: detail.into(),
            code: code.to_owned(),
            limit: None,
            measured: None,
            remedy: None,
            reasons: Vec::new(),
            retry_after_s: None,
        }
    }

    /// Adds the limit and what was measured, both with units.
    #[must_use]
    pub fn figures(mut self, limit: impl Into<String>, measured: impl Into<String>) -> Self {
        self.limit = Some(limit.into());
        self.measured = Some(measured.into());
        self
    }

    /// Adds what the sender can do.
    #[must_use]
    pub fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }

    /// Adds when to try again, seconds from now; at least one.
    #[must_use]
    pub fn retry_after(mut self, seconds: u64) -> Self {
        self.retry_after_s = Some(seconds.max(1));
        self
    }

    /// Nothing under that name, or somebody else's: the answer is the same.
    #[must_use]
    pub fn not_found(what: &str) -> Self {
        Self::new(Kind::NotFound, format!("There is no such {what}."))
    }

    /// A parameter that cannot be understood.
    #[must_use]
    pub fn invalid(detail: impl Into<String>) -> Self {
        Self::new(Kind::InvalidParameter, detail)
    }

    /// A fault of ours: the log gets the reason, the client does not.
    #[must_use]
    pub fn internal(reason: &dyn std::fmt::Display) -> Self {
        tracing::error!(%reason, "internal error");
        Self::new(Kind::Internal, "The fault is on this side. The log of the server says more under this request id.")
    }

    /// A part of the server that cannot be used at the moment.
    #[must_use]
    pub fn unavailable(reason: &dyn std::fmt::Display) -> Self {
        tracing::warn!(%reason, "unavailable");
        Self::new(Kind::Unavailable, "A part of the server cannot be reached at the moment.").retry_after(RETRY_SOON_S)
    }

    /// An announced upload whose bytes are others.
    #[must_use]
    pub fn upload_differs(how: impl std::fmt::Display) -> Self {
        Self::new(Kind::UploadDiffers, format!("What was put is not what was announced: {how}"))
            .remedy("Put the announced bytes, or announce the upload again.")
    }

    /// More bytes than one body may have.
    #[must_use]
    pub fn body_too_large(limit_bytes: u64, measured: impl Into<String>) -> Self {
        Self::new(Kind::Refused(RefusalCode::BodyTooLarge), format!("An upload may have at most {limit_bytes} bytes."))
            .figures(format!("{limit_bytes} bytes"), measured)
            .remedy("Send fewer or smaller images in one request.")
    }

    /// Counts the problem under its code.
    pub fn count(&self) {
        metrics::counter!("inkpool_refusals_total", "code" => self.code.clone()).increment(1);
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        self.count();
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let retry_after_s = self.retry_after_s;
        let mut response = (status, Json(self)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"inkpool\""));
        }
        if let Some(seconds) = retry_after_s {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        Self {
            limit: refusal.limit,
            measured: refusal.measured,
            remedy: refusal.remedy,
            ..Self::new(Kind::Refused(refusal.code), refusal.detail)
        }
    }
}

impl From<LedgerError> for Problem {
    fn from(error: LedgerError) -> Self {
        match error {
            LedgerError::Unavailable(_) => Self::unavailable(&error),
            LedgerError::Corrupt(_) => Self::internal(&error),
        }
    }
}

impl From<AuthError> for Problem {
    fn from(error: AuthError) -> Self {
        let kind = match &error {
            AuthError::Store(error) => return error.clone().into(),
            AuthError::Password(broken @ PasswordError::Broken(_)) => return Self::internal(broken),
            AuthError::TooManyTries { wait } => {
                let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
                return Self::new(Kind::TooManyTries, error.to_string()).retry_after(seconds);
            }
            AuthError::Busy => return Self::new(Kind::Overloaded, error.to_string()).retry_after(1),
            AuthError::TooMany { what, limit } => {
                let figures = (format!("{limit} {what}"), format!("more than {limit} {what}"));
                return Self::new(Kind::TooMany, error.to_string()).figures(figures.0, figures.1);
            }
            AuthError::WrongLogin => Kind::WrongLogin,
            AuthError::Disabled => Kind::AccountDisabled,
            AuthError::LastAdministrator => Kind::LastAdministrator,
            AuthError::InvalidUsername => Kind::InvalidUsername,
            AuthError::Password(_) => Kind::PasswordRefused,
            AuthError::NameTaken => Kind::UsernameTaken,
            AuthError::RegistrationClosed => Kind::RegistrationClosed,
            AuthError::NotInvited => Kind::NotInvited,
            AuthError::BeyondOwn => Kind::ScopeMissing,
        };
        Self::new(kind, error.to_string())
    }
}

impl From<BlobError> for Problem {
    fn from(error: BlobError) -> Self {
        match error {
            BlobError::TooLong { limit } => Self::body_too_large(limit, format!("more than {limit} bytes")),
            BlobError::Source(_) => Self::new(Kind::IncompleteBody, "The body ended before its announced length."),
            BlobError::Unavailable(_) => Self::unavailable(&error),
            BlobError::Down { retry_after, .. } => Self::unavailable(&error).retry_after(retry_after.as_secs() + 1),
            BlobError::NoSpace => Self::new(Kind::StorageFull, "There is no room left on the disk."),
            // Whoever asks has seen a row, so the object should be there.
            BlobError::NotFound | BlobError::Mismatch(_) | BlobError::Taken => Self::internal(&error),
        }
    }
}

impl From<ControlError> for Problem {
    fn from(error: ControlError) -> Self {
        match error {
            ControlError::NoSuchNode => Self::not_found("node"),
            ControlError::TooManySlots { limit } => Self::new(Kind::TooManySlots, error.to_string())
                .figures(format!("{limit} slots"), format!("more than {limit} slots"))
                .remedy("Ask for fewer, or raise slots.count_max."),
            ControlError::Unavailable(_) => Self::unavailable(&error),
        }
    }
}

impl From<TargetError> for Problem {
    fn from(error: TargetError) -> Self {
        use TargetError as E;
        let (kind, remedy) = match &error {
            E::TooLong | E::NotAUrl | E::Scheme(_) | E::Credentials | E::Port(_) => {
                (Kind::WebhookUrl, "Use a URL such as https://example.org/hook.")
            }
            E::Address => (Kind::WebhookAddress, "Use a receiver on the Internet, or have webhooks.allow_private set."),
            E::Unresolved => (Kind::WebhookUnresolved, "Check the name, or try again when it has an address."),
        };
        Self::new(kind, format!("This is refused: {error}.")).remedy(remedy)
    }
}

impl From<JsonRejection> for Problem {
    fn from(rejection: JsonRejection) -> Self {
        if matches!(rejection, JsonRejection::MissingJsonContentType(_)) {
            return Self::new(Kind::UnsupportedMediaType, "Send the body as application/json.");
        }
        if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
            return Self::body_too_large(
                super::JSON_BYTES_MAX as u64,
                format!("more than {} bytes", super::JSON_BYTES_MAX),
            );
        }
        Self::new(Kind::InvalidJson, rejection.body_text())
    }
}

impl From<QueryRejection> for Problem {
    fn from(rejection: QueryRejection) -> Self {
        Self::invalid(rejection.body_text())
    }
}

impl From<PathRejection> for Problem {
    /// An id that is no id names nothing.
    fn from(_: PathRejection) -> Self {
        Self::not_found("thing")
    }
}
