//! The few calls to the Docker Engine that slots need, each bounded in time.

use std::collections::HashMap;
use std::time::Duration;

use bollard::Docker;
use bollard::errors::Error;
use bollard::models::{ContainerCreateBody, ContainerSummaryStateEnum, EventMessage};
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, EventsOptionsBuilder, InspectContainerOptions, ListContainersOptionsBuilder,
    RemoveContainerOptionsBuilder, StartContainerOptions,
};
use futures::{Stream, StreamExt};

/// Below this the engine lacks what slots rely on.
const API_MIN: (u32, u32) = (1, 41);
/// First and longest wait between two looks at a removal that is under way.
const REMOVAL_WAIT_MIN: Duration = Duration::from_millis(50);
const REMOVAL_WAIT_MAX: Duration = Duration::from_secs(1);

/// What can go wrong with a call.
#[derive(Debug, Clone, thiserror::Error)]
pub enum EngineError {
    /// No answer: the engine is stopped, starts, or hangs.
    #[error("the Docker Engine does not answer: {0}")]
    Away(String),
    /// It answered with an error.
    #[error("the Docker Engine answered {status}: {message}")]
    Answer {
        /// HTTP status.
        status: u16,
        /// In its words.
        message: String,
    },
}

impl EngineError {
    const fn is(&self, wanted: u16) -> bool {
        matches!(self, Self::Answer { status, .. } if *status == wanted)
    }
}

impl From<Error> for EngineError {
    #[expect(clippy::wildcard_enum_match_arm, reason = "all other errors mean that there was no whole answer")]
    fn from(error: Error) -> Self {
        match error {
            Error::DockerResponseServerError { status_code: 503, message } => Self::Away(message),
            Error::DockerResponseServerError { status_code, message } => Self::Answer { status: status_code, message },
            other => Self::Away(other.to_string()),
        }
    }
}

/// A container as it is listed.
#[derive(Debug, Clone)]
pub struct Listed {
    /// Without the slash.
    pub name: String,
    /// Whether its process runs.
    pub running: bool,
}

/// How a container stands.
#[derive(Debug, Clone, Default)]
pub struct Inspected {
    /// Whether its process runs.
    pub running: bool,
    /// Id, hex.
    pub id: String,
    /// Its first process, as the engine numbers it.
    pub pid: Option<i32>,
    /// Of its first process.
    pub exit_code: Option<i64>,
    /// Whether it ran into its memory limit.
    pub oom_killed: bool,
}

/// A connection to the engine; each call makes one of its own.
#[derive(Debug, Clone)]
pub struct Engine {
    docker: Docker,
    timeout: Duration,
}

impl Engine {
    /// Connects to `host` (`unix://…` or `tcp://…`) and checks the version of its API. `timeout` bounds every call.
    ///
    /// # Errors
    /// When it does not answer, or is too old.
    pub async fn connect(host: &str, timeout: Duration) -> Result<Self, EngineError> {
        let seconds = timeout.as_secs().max(1);
        let docker = if host.starts_with("tcp://") || host.starts_with("http://") {
            Docker::connect_with_http(host, seconds, bollard::API_DEFAULT_VERSION)?
        } else {
            Docker::connect_with_unix(host, seconds, bollard::API_DEFAULT_VERSION)?
        };
        let engine = Self { docker, timeout };
        let version = engine.bounded(engine.docker.version()).await?.api_version.unwrap_or_default();
        let number =
            version.split_once('.').and_then(|(major, minor)| Some((major.parse().ok()?, minor.parse().ok()?)));
        if number.is_none_or(|number: (u32, u32)| number < API_MIN) {
            let message = format!("its API is {version:?}, needed is {}.{} or newer", API_MIN.0, API_MIN.1);
            return Err(EngineError::Answer { status: 0, message });
        }
        Ok(engine)
    }

    async fn bounded<T>(&self, call: impl Future<Output = Result<T, Error>>) -> Result<T, EngineError> {
        match tokio::time::timeout(self.timeout, call).await {
            Ok(result) => Ok(result?),
            Err(_) => Err(EngineError::Away(format!("no answer within {} s", self.timeout.as_secs()))),
        }
    }

    /// The id of an image: no tag moves under a running node.
    ///
    /// # Errors
    /// When there is no such image, in words.
    pub async fn image_id(&self, image: &str) -> Result<String, EngineError> {
        let found = self.bounded(self.docker.inspect_image(image)).await?;
        found.id.ok_or_else(|| EngineError::Answer { status: 0, message: format!("the image {image} has no id") })
    }

    /// Creates and starts a container.
    ///
    /// # Errors
    /// Of either call; the container may exist then.
    pub async fn run(&self, name: &str, body: ContainerCreateBody) -> Result<(), EngineError> {
        let options = CreateContainerOptionsBuilder::new().name(name).build();
        self.bounded(self.docker.create_container(Some(options), body)).await?;
        self.bounded(self.docker.start_container(name, None::<StartContainerOptions>)).await
    }

    /// How a container stands; `None` when there is none.
    ///
    /// # Errors
    /// Of the engine.
    pub async fn inspect(&self, name: &str) -> Result<Option<Inspected>, EngineError> {
        let found = match self.bounded(self.docker.inspect_container(name, None::<InspectContainerOptions>)).await {
            Ok(found) => found,
            Err(error) if error.is(404) => return Ok(None),
            Err(error) => return Err(error),
        };
        let state = found.state.unwrap_or_default();
        Ok(Some(Inspected {
            running: state.running.unwrap_or_default(),
            id: found.id.unwrap_or_default(),
            pid: state.pid.and_then(|pid| i32::try_from(pid).ok()).filter(|pid| *pid > 0),
            exit_code: state.exit_code,
            oom_killed: state.oom_killed.unwrap_or_default(),
        }))
    }

    /// All containers, running or not, that carry all of these labels (`name=value`).
    ///
    /// # Errors
    /// Of the engine.
    pub async fn list(&self, labels: Vec<String>) -> Result<Vec<Listed>, EngineError> {
        let filters = HashMap::from([("label", labels)]);
        let options = ListContainersOptionsBuilder::new().all(true).filters(&filters).build();
        let found = self.bounded(self.docker.list_containers(Some(options))).await?;
        let listed = found.into_iter().filter_map(|container| {
            let name = container.names?.into_iter().next()?.trim_start_matches('/').to_owned();
            let running = container.state == Some(ContainerSummaryStateEnum::RUNNING);
            Some(Listed { name, running })
        });
        Ok(listed.collect())
    }

    /// Kills and removes a container and waits until it is gone. One that is gone already, or on its way, is as good.
    ///
    /// # Errors
    /// When it is not gone within the bound of a call.
    pub async fn remove(&self, name: &str) -> Result<(), EngineError> {
        let patience = tokio::time::Instant::now() + self.timeout;
        let mut wait = REMOVAL_WAIT_MIN;
        loop {
            let options = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
            let failed = match self.bounded(self.docker.remove_container(name, Some(options))).await {
                Ok(()) => return Ok(()),
                Err(error) if error.is(404) => return Ok(()),
                Err(error) => error,
            };
            // 409: another removal is under way; its end shows as 404.
            if matches!(failed, EngineError::Away(_)) || tokio::time::Instant::now() + wait > patience {
                return Err(failed);
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(REMOVAL_WAIT_MAX);
        }
    }

    /// What happens to containers with these labels, until the connection breaks. No bound: whoever reads it has one.
    pub fn events(&self, labels: Vec<String>) -> impl Stream<Item = Result<EventMessage, EngineError>> + use<> {
        let filters = HashMap::from([("label", labels), ("type", vec!["container".to_owned()])]);
        let options = EventsOptionsBuilder::new().filters(&filters).build();
        let docker = self.docker.clone();
        docker.events(Some(options)).map(|event| event.map_err(EngineError::from)).boxed()
    }
}
