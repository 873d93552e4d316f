//! The Docker Engine as tests see it: through its command line, so that nothing of the program is used to judge it.

use std::process::{Command, Output};

use super::server::Options;

/// The image that `scripts/test-image` built.
#[expect(clippy::disallowed_methods, reason = "where the image is comes from whoever starts the tests")]
pub fn image() -> String {
    std::env::var("INKPOOL_TEST_IMAGE")
        .expect("INKPOOL_TEST_IMAGE names no image: build one with scripts/test-image TAG")
}

/// A cluster of one test's own; whatever carries its label is removed with the value.
pub struct Cluster {
    pub name: String,
    /// Arguments that lead the client to the engine.
    engine: Vec<String>,
}

impl Cluster {
    pub fn new() -> Self {
        Self::on(&[])
    }

    /// On another engine than the usual one.
    pub fn on(engine: &[String]) -> Self {
        let name = format!("test-{}", uuid::Uuid::new_v4().simple());
        Self { name, engine: engine.to_vec() }
    }

    /// Options of a server with Docker slots in this cluster.
    pub fn options(&self, slots: u32) -> Options {
        Options::default()
            .slots(slots)
            .set("INKPOOL_SLOTS__RUNTIME", "docker")
            .set("INKPOOL_SLOTS__DOCKER__IMAGE", image())
            .set("INKPOOL_SLOTS__DOCKER__CLUSTER", &self.name)
            .set("INKPOOL_SLOTS__DOCKER__LIST_EVERY_S", 1)
            .set("INKPOOL_SLOTS__START_TIMEOUT_S", 60)
            .set("INKPOOL_SLOTS__MEMORY_BYTES_MAX", 512 << 20)
    }

    pub fn try_docker(&self, arguments: &[&str]) -> Output {
        Command::new("docker").args(&self.engine).args(arguments).output().unwrap()
    }

    /// Runs the client; its output.
    pub fn docker(&self, arguments: &[&str]) -> String {
        let output = self.try_docker(arguments);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "docker {arguments:?}: {errors}");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// Ids of its containers, running or not, that fit a further filter.
    pub fn containers(&self, filter: Option<&str>) -> Vec<String> {
        let label = format!("label=inkpool.cluster={}", self.name);
        let mut arguments = vec!["ps", "--all", "--quiet", "--no-trunc", "--filter", &label];
        if let Some(filter) = filter {
            arguments.extend(["--filter", filter]);
        }
        self.docker(&arguments).lines().map(str::to_owned).collect()
    }

    /// Those that run.
    pub fn running(&self) -> Vec<String> {
        self.containers(Some("status=running"))
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let label = format!("label=inkpool.cluster={}", self.name);
        let found = self.try_docker(&["ps", "--all", "--quiet", "--filter", &label]);
        for id in String::from_utf8_lossy(&found.stdout).lines() {
            self.try_docker(&["rm", "--force", id]);
        }
    }
}
