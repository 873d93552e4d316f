//! Every kind of problem, and what an answer with it looks like.

use crate::http::problem::{Kind, Problem};
use crate::job::RefusalCode as R;

/// All of them.
pub const ALL: [Kind; 67] = [
    Kind::Refused(R::EmptyBody),
    Kind::Refused(R::UnsupportedFormat),
    Kind::Refused(R::BodyTooLarge),
    Kind::Refused(R::TooManyPixels),
    Kind::Refused(R::SideTooLong),
    Kind::Refused(R::TooManyPages),
    Kind::Refused(R::NeedsTooMuchMemory),
    Kind::Refused(R::Malformed),
    Kind::Refused(R::UnsupportedFeature),
    Kind::Refused(R::UnknownPreset),
    Kind::Refused(R::InvalidSetting),
    Kind::InvalidParameter,
    Kind::InvalidJson,
    Kind::InvalidMultipart,
    Kind::MissingFile,
    Kind::IncompleteBody,
    Kind::TooManyParts,
    Kind::IdempotencyKeyReused,
    Kind::HostNotAllowed,
    Kind::OriginNotAllowed,
    Kind::LoginRequired,
    Kind::WrongLogin,
    Kind::WrongPassword,
    Kind::CsrfHeaderMissing,
    Kind::AdministratorsOnly,
    Kind::ScopeMissing,
    Kind::RegistrationClosed,
    Kind::NotInvited,
    Kind::UsernameTaken,
    Kind::InvalidUsername,
    Kind::PasswordRefused,
    Kind::TooMany,
    Kind::TooManyTries,
    Kind::StorageQuota,
    Kind::PixelQuota,
    Kind::JobQuota,
    Kind::AccountDisabled,
    Kind::LastAdministrator,
    Kind::NoAccounts,
    Kind::NotFound,
    Kind::MethodNotAllowed,
    Kind::RequestTimeout,
    Kind::WrongState,
    Kind::UnsupportedMediaType,
    Kind::RangeNotSatisfiable,
    Kind::TooManySlots,
    Kind::UrlNotValid,
    Kind::UrlExpired,
    Kind::NotUploaded,
    Kind::AlreadyUploaded,
    Kind::UploadDiffers,
    Kind::TooManyUploads,
    Kind::UploadLocked,
    Kind::OffsetDiffers,
    Kind::ChecksumDiffers,
    Kind::TusVersion,
    Kind::WebhookUrl,
    Kind::WebhookAddress,
    Kind::WebhookUnresolved,
    Kind::WebhookOff,
    Kind::HeadersTooLarge,
    Kind::Internal,
    Kind::QueueFull,
    Kind::Overloaded,
    Kind::Unavailable,
    Kind::NotReady,
    Kind::StorageFull,
];

/// The kind of a code.
pub fn of_code(code: &str) -> Option<Kind> {
    ALL.into_iter().find(|kind| example(*kind).code == code)
}

/// A problem without what is particular to one request.
pub fn example(kind: Kind) -> Problem {
    let mut problem = Problem::new(kind, "");
    problem.detail = format!("{}.", problem.title);
    problem
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_are_here() {
        let variants = |source: &str, name: &str| {
            let body = source.split(&format!("pub enum {name} {{")).nth(1).unwrap().split("\n}").next().unwrap();
            body.lines().filter(|line| line.ends_with(',')).count()
        };
        let kinds = variants(include_str!("../problem.rs"), "Kind");
        let refusals = variants(include_str!("../../job/refusal.rs"), "RefusalCode");
        // One of the kinds stands for all refusals.
        assert_eq!(ALL.len(), kinds - 1 + refusals);
        let mut codes = ALL.map(|kind| example(kind).code).to_vec();
        codes.sort();
        codes.dedup();
        assert_eq!(codes.len(), ALL.len());
    }
}
