//! S3 and what speaks its language: how it is reached, and uploads in parts that nobody ended.

use std::sync::Arc;
use std::time::Duration;

use object_store::aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey};
use object_store::multipart::MultipartStore;
use object_store::path::Path;
use object_store::signer::{SignedUrlOptions, Signer};
use object_store::{BackoffConfig, ClientOptions, RetryConfig};
use rusty_s3::{Bucket, UrlStyle};
use serde::Deserialize;

use super::{BlobError, Blobs, from_store};
use crate::config;

/// Tries of one request: the time bound of the settings ends them earlier.
const RETRIES_MAX: usize = 20;
const RETRY_WAIT: Duration = Duration::from_millis(100);
const RETRY_WAIT_MAX: Duration = Duration::from_secs(3);
/// A signed request that this program sends itself is sent at once.
const SIGNED_FOR: Duration = Duration::from_secs(60);
/// Connections without a request are closed after this time: before a server does it (Amazon's after 20 s) and a request is
/// lost on one; and what a burst of uploads opened is soon gone.
const IDLE_MAX: Duration = Duration::from_secs(15);
/// Pages of a listing of unfinished uploads that one look goes through, of a thousand each.
const PAGES_MAX: u32 = 100;

/// A bucket.
#[derive(Debug)]
pub(super) struct S3 {
    pub(super) store: Arc<AmazonS3>,
    pub(super) prefix: Path,
    /// The bucket at the address that clients use.
    pub(super) public: Bucket,
    http: http_client::Client,
}

/// `s3://BUCKET/PREFIX` as its two parts.
fn parse(url: &str) -> Option<(&str, Path)> {
    let rest = url.strip_prefix("s3://")?;
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    let valid = |bucket: &str| {
        (3..=63).contains(&bucket.len())
            && bucket.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte))
    };
    Some((bucket, Path::parse(prefix.trim_end_matches('/')).ok()?)).filter(|(bucket, _)| valid(bucket))
}

/// Makes the client; nothing is sent yet.
pub(super) fn connect(settings: &config::Blobs, aws: &config::Aws) -> Result<S3, BlobError> {
    let unusable = |why: String| BlobError::Unavailable(why);
    let (bucket, prefix) = parse(&settings.url)
        .ok_or_else(|| unusable(format!("blobs.url = {:?} is not of the form s3://BUCKET/PREFIX", settings.url)))?;
    // Fails when a provider is there already, which is as good.
    drop(rustls::crypto::ring::default_provider().install_default());
    let seconds = Duration::from_secs;
    let mut builder = AmazonS3Builder::new();
    for (name, value) in &aws.0 {
        if let Ok(key) = name.to_ascii_lowercase().parse::<AmazonS3ConfigKey>() {
            builder = builder.with_config(key, value);
        }
    }
    // A stream that is read slowly is no fault: the bound is on each answer and on each further byte.
    let client = ClientOptions::new()
        .with_connect_timeout(seconds(settings.connect_timeout_s))
        .with_timeout_disabled()
        .with_pool_idle_timeout(IDLE_MAX)
        .with_read_timeout(seconds(settings.request_timeout_s));
    let retry = RetryConfig {
        backoff: BackoffConfig { init_backoff: RETRY_WAIT, max_backoff: RETRY_WAIT_MAX, base: 2.0 },
        max_retries: RETRIES_MAX,
        retry_timeout: seconds(settings.retry_s),
    };
    builder = builder
        .with_bucket_name(bucket)
        .with_virtual_hosted_style_request(!settings.path_style)
        // Not every server knows the call that deletes many.
        .with_disable_bulk_delete(true)
        .with_retry(retry)
        .with_client_options(client.with_allow_http(true));
    if !settings.endpoint.is_empty() {
        builder = builder.with_endpoint(&settings.endpoint);
    }
    if !settings.region.is_empty() {
        builder = builder.with_region(&settings.region);
    }
    let public = public(settings, &builder, bucket)?;
    let store = Arc::new(builder.build().map_err(from_store)?);
    let http = http_client::Client::builder()
        .connect_timeout(seconds(settings.connect_timeout_s))
        .timeout(seconds(settings.request_timeout_s))
        .build()
        .map_err(|error| unusable(error.to_string()))?;
    Ok(S3 { store, prefix, public, http })
}

/// The bucket as clients reach it, for URLs that they are given.
fn public(settings: &config::Blobs, builder: &AmazonS3Builder, bucket: &str) -> Result<Bucket, BlobError> {
    let unusable = |why: String| BlobError::Unavailable(format!("blobs.public_endpoint: {why}"));
    let known = |key| builder.get_config_value(&key);
    let region = known(AmazonS3ConfigKey::Region).or_else(|| known(AmazonS3ConfigKey::DefaultRegion));
    let region = region.unwrap_or_else(|| "us-east-1".to_owned());
    let given = Some(settings.public_endpoint.clone()).filter(|endpoint| !endpoint.is_empty());
    let endpoint = given
        .or_else(|| known(AmazonS3ConfigKey::S3Endpoint))
        .or_else(|| known(AmazonS3ConfigKey::Endpoint))
        .unwrap_or_else(|| format!("https://s3.{region}.amazonaws.com"));
    let endpoint = http_client::Url::parse(&endpoint).map_err(|error| unusable(error.to_string()))?;
    let style = if settings.path_style { UrlStyle::Path } else { UrlStyle::VirtualHost };
    Bucket::new(endpoint, style, bucket.to_owned(), region).map_err(|error| unusable(error.to_string()))
}

/// One page of ListMultipartUploads.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Page {
    #[serde(rename = "Upload")]
    uploads: Vec<Unfinished>,
    is_truncated: bool,
    next_key_marker: String,
    next_upload_id_marker: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Unfinished {
    key: String,
    upload_id: String,
    initiated: String,
}

impl S3 {
    /// The key in the bucket.
    pub(super) fn full(&self, path: &Path) -> Path {
        self.prefix.parts().chain(path.parts()).collect()
    }

    /// The first page of uploads in parts that are under way.
    pub(super) async fn unfinished(&self) -> Result<Page, BlobError> {
        self.page(&Page::default()).await
    }

    /// `object_store` has no call for it, but signs what it is given.
    async fn page(&self, after: &Page) -> Result<Page, BlobError> {
        let mut query = vec![("uploads", ""), ("prefix", self.prefix.as_ref())];
        if after.is_truncated {
            query.push(("key-marker", &after.next_key_marker));
            query.push(("upload-id-marker", &after.next_upload_id_marker));
        }
        let options = SignedUrlOptions::default().with_query(query);
        let url = self.store.signed_url_opts(http_client::Method::GET, &Path::default(), SIGNED_FOR, &options).await;
        let unavailable = |error: http_client::Error| BlobError::Unavailable(error.without_url().to_string());
        let answer = self.http.get(url.map_err(from_store)?).send().await.map_err(unavailable)?;
        let status = answer.status();
        let text = answer.text().await.map_err(unavailable)?;
        if !status.is_success() {
            return Err(BlobError::Unavailable(format!("listing unfinished uploads: {status}: {text}")));
        }
        quick_xml::de::from_str(&text).map_err(|error| BlobError::Unavailable(error.to_string()))
    }
}

impl Blobs {
    /// Ends uploads in parts that were begun longer ago and never ended: their bytes are paid for and seen by nobody.
    /// Returns how many; 0 where there are no such uploads.
    ///
    /// # Errors
    /// [`BlobError::Unavailable`], also where the server cannot list them.
    pub async fn end_unfinished(&self, older_than: Duration) -> Result<u64, BlobError> {
        let Some(s3) = &self.s3 else { return Ok(0) };
        self.in_reach()?;
        let begun_before = time::OffsetDateTime::now_utc() - older_than;
        let (mut page, mut ended) = (s3.unfinished().await?, 0);
        for _ in 0..PAGES_MAX {
            for upload in &page.uploads {
                let format = &time::format_description::well_known::Rfc3339;
                let begun = time::OffsetDateTime::parse(&upload.initiated, format);
                let key = Path::parse(&upload.key).ok().filter(|key| key.prefix_matches(&s3.prefix));
                let (Ok(begun), Some(key)) = (begun, key) else { continue };
                if begun <= begun_before {
                    s3.store.abort_multipart(&key, &upload.upload_id).await.map_err(|error| self.failed(error))?;
                    ended += 1;
                }
            }
            if !page.is_truncated {
                break;
            }
            page = s3.page(&page).await?;
        }
        Ok(ended)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_name_a_bucket_and_a_prefix() {
        let parsed = |url| parse(url).map(|(bucket, prefix)| (bucket.to_owned(), prefix.to_string()));
        let is = |bucket: &str, prefix: &str| Some((bucket.to_owned(), prefix.to_owned()));
        assert_eq!(parsed("s3://pages"), is("pages", ""));
        assert_eq!(parsed("s3://pages/"), is("pages", ""));
        assert_eq!(parsed("s3://pages/a/b/"), is("pages", "a/b"));
        for wrong in ["", "pages", "http://pages", "s3://", "s3:///a", "s3://Pages", "s3://pages/a//b"] {
            assert_eq!(parsed(wrong), None, "{wrong}");
        }
    }
}
