//! Identifiers: UUID version 7, so that rows sort by the time they were made.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(
            Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema,
        )]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl $name {
            /// A fresh identifier, later than all made before it on this machine.
            #[must_use]
            pub fn fresh() -> Self {
                Self(Uuid::now_v7())
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.0.fmt(f)
            }
        }

        impl std::str::FromStr for $name {
            type Err = uuid::Error;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                text.parse().map(Self)
            }
        }
    };
}

id!(
    /// Who an image, a job or an event belongs to.
    OwnerId
);
id!(
    /// One account. Its images belong to the account's [`OwnerId`].
    AccountId
);
id!(
    /// One session or token.
    CredentialId
);
id!(
    /// One invitation.
    InvitationId
);
id!(
    /// A submission that could not be worked on.
    DeadLetterId
);
id!(
    /// An address that is told what becomes of jobs.
    WebhookId
);
id!(
    /// One thing to be brought there.
    DeliveryId
);
id!(
    /// One upload.
    ImageId
);
id!(
    /// An upload that was announced, whose bytes are on the way.
    UploadId
);
id!(
    /// One durable request to process an image.
    JobId
);

impl OwnerId {
    /// The one user of `open` mode, who needs no login. The first account takes over what is theirs.
    pub const LOCAL: Self = Self(Uuid::from_u128(1));
}
