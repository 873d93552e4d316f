//! An S3 server in the test's own process, with real signatures and real multipart uploads, that can be made to fail.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use s3s::auth::SimpleAuth;
use s3s::dto::*;
use s3s::service::S3ServiceBuilder;
use s3s::{S3, S3Request, S3Response, S3Result};
use s3s_fs::FileSystem;
use tokio::sync::watch;

pub const ACCESS_KEY: &str = "AKINKPOOLTEST";
pub const SECRET_KEY: &str = "a secret of tests only";
pub const BUCKET: &str = "pages";

/// How the server behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// As it should.
    Well,
    /// Every answer is 503.
    Unavailable,
    /// Requests are taken and never answered.
    Hanging,
    /// Requests to put something are answered 503.
    ReadOnly,
}

/// The server. Gone with the value, and its objects with it.
pub struct S3Server {
    pub endpoint: String,
    pub server: tokio::task::JoinHandle<()>,
    root: tempfile::TempDir,
    mode: watch::Sender<Mode>,
    unfinished: Unfinished,
}

/// Uploads in parts that have not ended, by their ids: key and when they were begun.
type Unfinished = Arc<Mutex<BTreeMap<String, (String, SystemTime)>>>;

impl S3Server {
    /// Listens on a free port, with one empty bucket.
    pub async fn start() -> Self {
        let root = tempfile::Builder::new().prefix("inkpool-s3-").tempdir().unwrap();
        std::fs::create_dir(root.path().join(BUCKET)).unwrap();
        Self::start_with(root, "127.0.0.1:0", ACCESS_KEY, SECRET_KEY).await
    }

    /// Listens at `address`; each directory in `root` is a bucket.
    pub async fn start_with(root: tempfile::TempDir, address: &str, access_key: &str, secret_key: &str) -> Self {
        let unfinished = Unfinished::default();
        let store = Store {
            files: FileSystem::new(root.path()).unwrap(),
            unfinished: unfinished.clone(),
            conditions: std::array::from_fn(|_| tokio::sync::Mutex::default()),
        };
        let mut builder = S3ServiceBuilder::new(store);
        builder.set_auth(SimpleAuth::from_single(access_key, secret_key));
        let service = builder.build();
        let listener = tokio::net::TcpListener::bind(address).await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let (mode, watched) = watch::channel(Mode::Well);
        let server = tokio::spawn(async move {
            loop {
                let Ok((socket, _)) = listener.accept().await else { continue };
                // Its answers come in two writes: with Nagle's algorithm the second one waits 40 ms for a delayed acknowledgement.
                let _ = socket.set_nodelay(true);
                let (service, watched) = (service.clone(), watched.clone());
                let answer = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
                    let (service, mut watched) = (service.clone(), watched.clone());
                    async move {
                        let mode = *watched.borrow_and_update();
                        let puts = matches!(request.method().as_str(), "PUT" | "POST");
                        match mode {
                            Mode::Unavailable => return Ok(unavailable()),
                            Mode::ReadOnly if puts => return Ok(unavailable()),
                            Mode::Hanging => {
                                let _ = watched.wait_for(|mode| *mode != Mode::Hanging).await;
                                return Ok(unavailable());
                            }
                            Mode::Well | Mode::ReadOnly => {}
                        }
                        Ok::<_, Infallible>(hyper::service::Service::call(&service, request).await.unwrap())
                    }
                });
                tokio::spawn(async move {
                    let builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
                    let _ = builder.serve_connection(TokioIo::new(socket), answer).await;
                });
            }
        });
        Self { endpoint, server, root, mode, unfinished }
    }

    pub fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }

    /// The objects' directory.
    pub fn bucket(&self) -> PathBuf {
        self.root.path().join(BUCKET)
    }

    /// Keys of uploads in parts that have not ended.
    pub fn unfinished(&self) -> Vec<String> {
        self.unfinished.lock().unwrap().values().map(|(key, _)| key.clone()).collect()
    }

    /// Lets the unfinished uploads look older than they are.
    pub fn age_unfinished(&self, by: Duration) {
        self.unfinished.lock().unwrap().values_mut().for_each(|(_, begun)| *begun -= by);
    }
}

impl Drop for S3Server {
    fn drop(&mut self) {
        self.server.abort();
    }
}

fn unavailable() -> hyper::Response<s3s::Body> {
    let body = "<Error><Code>ServiceUnavailable</Code><Message>Please try again.</Message></Error>";
    let mut response = hyper::Response::new(s3s::Body::from(body.to_owned()));
    *response.status_mut() = hyper::StatusCode::SERVICE_UNAVAILABLE;
    response
}

/// Files, and the one listing that they do not know.
#[derive(Debug)]
struct Store {
    files: FileSystem,
    unfinished: Unfinished,
    /// Puts on a condition come one after the other for each key, which the files alone do not see to.
    conditions: [tokio::sync::Mutex<()>; 64],
}

macro_rules! passed_on {
    ($($name:ident: $input:ident => $output:ident;)*) => {
        #[async_trait::async_trait]
        impl S3 for Store {
            $(async fn $name(&self, request: S3Request<$input>) -> S3Result<S3Response<$output>> {
                self.files.$name(request).await
            })*

            async fn put_object(&self, request: S3Request<PutObjectInput>) -> S3Result<S3Response<PutObjectOutput>> {
                let number: usize = request.input.key.bytes().map(usize::from).sum();
                let _alone = match request.input.if_none_match {
                    Some(_) => Some(self.conditions[number % self.conditions.len()].lock().await),
                    None => None,
                };
                self.files.put_object(request).await
            }

            async fn create_multipart_upload(
                &self,
                request: S3Request<CreateMultipartUploadInput>,
            ) -> S3Result<S3Response<CreateMultipartUploadOutput>> {
                let key = request.input.key.clone();
                let answer = self.files.create_multipart_upload(request).await?;
                let id = answer.output.upload_id.clone().unwrap_or_default();
                self.unfinished.lock().unwrap().insert(id, (key, SystemTime::now()));
                Ok(answer)
            }

            async fn complete_multipart_upload(
                &self,
                request: S3Request<CompleteMultipartUploadInput>,
            ) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
                let id = request.input.upload_id.clone();
                let answer = self.files.complete_multipart_upload(request).await?;
                self.unfinished.lock().unwrap().remove(&id);
                Ok(answer)
            }

            async fn abort_multipart_upload(
                &self,
                request: S3Request<AbortMultipartUploadInput>,
            ) -> S3Result<S3Response<AbortMultipartUploadOutput>> {
                let id = request.input.upload_id.clone();
                let answer = self.files.abort_multipart_upload(request).await?;
                self.unfinished.lock().unwrap().remove(&id);
                Ok(answer)
            }

            async fn list_multipart_uploads(
                &self,
                request: S3Request<ListMultipartUploadsInput>,
            ) -> S3Result<S3Response<ListMultipartUploadsOutput>> {
                let prefix = request.input.prefix.unwrap_or_default();
                let unfinished = self.unfinished.lock().unwrap();
                let uploads = unfinished.iter().filter(|(_, (key, _))| key.starts_with(&prefix));
                let uploads = uploads.map(|(id, (key, begun))| MultipartUpload {
                    key: Some(key.clone()),
                    upload_id: Some(id.clone()),
                    initiated: Some(Timestamp::from(*begun)),
                    ..MultipartUpload::default()
                });
                Ok(S3Response::new(ListMultipartUploadsOutput {
                    uploads: Some(uploads.collect()),
                    is_truncated: Some(false),
                    ..ListMultipartUploadsOutput::default()
                }))
            }
        }
    };
}

passed_on! {
    get_object: GetObjectInput => GetObjectOutput;
    head_object: HeadObjectInput => HeadObjectOutput;
    delete_object: DeleteObjectInput => DeleteObjectOutput;
    list_objects_v2: ListObjectsV2Input => ListObjectsV2Output;
    upload_part: UploadPartInput => UploadPartOutput;
}
