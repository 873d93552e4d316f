//! The end of an upload: its pieces, one after the other, become an image with a job, as the body of `POST /images` does.

use axum::http::StatusCode;
use bytes::Bytes;
use futures::stream::{self, StreamExt, TryStreamExt};

use super::patch::Adding;
use super::{forget, remove_pieces};
use crate::blobs::{BlobError, Blobs, Key, ObjectBytes};
use crate::http::problem::{Kind, Problem};
use crate::http::shapes::Item;
use crate::http::upload::receive::Received;
use crate::job::UploadId;
use crate::store::resumable::Piece;

/// Why the bytes of a whole upload cannot be read.
#[derive(Debug, thiserror::Error)]
enum Unreadable {
    #[error("a piece is not in the object store")]
    Missing,
    #[error(transparent)]
    Blobs(#[from] BlobError),
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

impl From<Unreadable> for Problem {
    fn from(error: Unreadable) -> Self {
        match error {
            Unreadable::Missing => {
                tracing::error!("pieces of an upload are not in the object store: do all nodes have the same one?");
                Self::new(Kind::Unavailable, "What was sent before is not in the object store of this node.")
                    .remedy("Nodes of one cluster need one object store. Try again through the node that took the first bytes.")
                    .retry_after(5)
            }
            Unreadable::Blobs(error) => error.into(),
            Unreadable::Io(error) => Self::unavailable(&error),
        }
    }
}

impl Adding {
    /// Makes image and job of what is there and the last bytes. What can never become an image is given up; after what
    /// passes, the last bytes are sent again.
    pub(super) async fn complete(&mut self, rest: Bytes) -> Result<Item, Problem> {
        let (state, id) = (self.upload.state.clone(), self.row.id);
        let completed = self.make(rest).await;
        match completed {
            Ok(item) => {
                crate::fault::hit("resumable-accepted");
                self.unacknowledged.clear();
                state.ledger.finish_resumable(id).await?;
                remove_pieces(&state, id).await;
                Ok(item)
            }
            Err(problem) => {
                if is_final(&problem) {
                    forget(&state, id).await?;
                }
                Err(problem)
            }
        }
    }

    async fn make(&mut self, rest: Bytes) -> Result<Item, Problem> {
        let (state, id) = (self.upload.state.clone(), self.row.id);
        let mut pieces = state.ledger.pieces(id).await?;
        pieces.extend(self.unacknowledged.iter().copied());
        let there = pieces.iter().map(|piece| piece.size_bytes).sum::<u64>();
        if there != self.reached {
            // Somebody else went on with it while this request was silent.
            return Err(Problem::new(Kind::OffsetDiffers, "Another request went on with this upload meanwhile.")
                .remedy("Ask by HEAD how much is there."));
        }
        let blobs = state.blobs.clone();
        let bytes = stream::iter(pieces)
            .then(move |piece| open(blobs.clone(), id, piece))
            .map_ok(|object| object.stream.map_err(Unreadable::from))
            .try_flatten()
            .chain(stream::iter([Ok(rest)]));
        let filename = self.row.filename.clone();
        let image = self.upload.store(&filename, Box::pin(bytes), Problem::from).await;
        let answered = match image {
            Ok(image) => self.upload.accept(vec![Received { filename, outcome: Ok(image) }]).await,
            Err(problem) => Err(problem),
        };
        let items = self.upload.settle(answered).await?;
        let item = items.items.into_iter().next().ok_or_else(|| Problem::internal(&"an answer without an item"))?;
        item.error.clone().map_or(Ok(item), Err)
    }
}

async fn open(blobs: Blobs, upload: UploadId, piece: Piece) -> Result<ObjectBytes, Unreadable> {
    match blobs.get_stream(&Key::Piece { upload, piece: piece.id }).await {
        Ok(object) if object.size_bytes == piece.size_bytes => Ok(object),
        Ok(_) | Err(BlobError::NotFound) => Err(Unreadable::Missing),
        Err(error) => Err(error.into()),
    }
}

/// Whether the same bytes would be refused again.
fn is_final(problem: &Problem) -> bool {
    let passes = [StatusCode::CONFLICT, StatusCode::TOO_MANY_REQUESTS].map(|status| status.as_u16());
    problem.status < 500 && !passes.contains(&problem.status)
}
