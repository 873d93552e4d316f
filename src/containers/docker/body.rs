//! What a worker's container may do: everything that is asked of the engine, in one place. Pure.

use std::collections::HashMap;

use bollard::models::{
    ContainerCreateBody, HealthConfig, HostConfig, HostConfigLogConfig, Mount, MountType, ResourcesUlimits,
};

use super::DockerSettings;
use crate::containers::StartOrder;
use crate::containers::slot_dir::{INPUT, OUTPUT};

/// The slot directory's name inside.
const INSIDE: &str = "/slot";
/// The socket's name in the slot directory, beside `in/` and `out/`, and inside.
pub const SOCKET: &str = "worker.sock";

/// Label of the cluster, then of the node, the start of the server, the slot and its worker.
pub const CLUSTER: &str = "inkpool.cluster";
/// Stable name of the node.
pub const NODE: &str = "inkpool.node";
/// Fresh at every start of the server.
pub const INCARNATION: &str = "inkpool.incarnation";
/// Index of the slot.
pub const SLOT: &str = "inkpool.slot";
/// Generation of the worker.
pub const GENERATION: &str = "inkpool.generation";

/// The request that creates a worker's container.
pub fn body(
    settings: &DockerSettings,
    image_id: &str,
    incarnation: &str,
    order: &StartOrder,
    token: &str,
) -> ContainerCreateBody {
    let host = |name: &str| order.directory.join(name).display().to_string();
    let inside = |name: &str| format!("{INSIDE}/{name}");
    let mount = |name: &str, read_only: bool| Mount {
        target: Some(inside(name)),
        source: Some(host(name)),
        typ: Some(MountType::BIND),
        read_only: Some(read_only),
        ..Mount::default()
    };
    let bytes = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    let limit = |name: &str, most: u64| ResourcesUlimits {
        name: Some(name.to_owned()),
        soft: Some(bytes(most)),
        hard: Some(bytes(most)),
    };
    let memory = Some(bytes(order.memory_bytes_max));
    let host_config = HostConfig {
        network_mode: Some("none".to_owned()),
        ipc_mode: Some("none".to_owned()),
        readonly_rootfs: Some(true),
        cap_drop: Some(vec!["ALL".to_owned()]),
        security_opt: Some(vec!["no-new-privileges".to_owned()]),
        privileged: Some(false),
        memory,
        // Together with swap: there is none.
        memory_swap: memory,
        nano_cpus: Some(nano_cpus(settings.cpus)),
        pids_limit: Some(settings.pids_max.into()),
        ulimits: Some(vec![
            limit("nofile", order.open_files_max),
            limit("core", 0),
            limit("fsize", order.file_bytes_max),
        ]),
        tmpfs: Some(HashMap::from([(
            "/tmp".to_owned(),
            format!("rw,noexec,nosuid,nodev,size={}", settings.tmpfs_bytes_max),
        )])),
        // Whatever it prints goes through its socket, where it is bounded.
        log_config: Some(HostConfigLogConfig { typ: Some("none".to_owned()), config: None }),
        init: Some(true),
        runtime: (!settings.runtime.is_empty()).then(|| settings.runtime.clone()),
        mounts: Some(vec![mount(INPUT, true), mount(OUTPUT, false), mount(SOCKET, true)]),
        ..HostConfig::default()
    };
    ContainerCreateBody {
        image: Some(image_id.to_owned()),
        cmd: Some(command(order, token, settings.network)),
        // Otherwise ONNX Runtime starts a thread that reports this machine to its maker.
        env: Some(vec!["ORT_DISABLE_TELEMETRY=1".to_owned()]),
        user: Some(format!("{}:{}", settings.user.0, settings.user.1)),
        working_dir: Some(INSIDE.to_owned()),
        labels: Some(labels(settings, incarnation, order)),
        network_disabled: Some(true),
        // The image's own check is that of a server.
        healthcheck: Some(HealthConfig { test: Some(vec!["NONE".to_owned()]), ..HealthConfig::default() }),
        host_config: Some(host_config),
        ..ContainerCreateBody::default()
    }
}

#[expect(clippy::cast_possible_truncation, reason = "processors are few; the cast saturates")]
fn nano_cpus(cpus: f64) -> i64 {
    (cpus * 1e9) as i64
}

fn command(order: &StartOrder, token: &str, network: bool) -> Vec<String> {
    let words = [
        "worker".to_owned(),
        "--slot-dir".to_owned(),
        INSIDE.to_owned(),
        "--connect".to_owned(),
        format!("{INSIDE}/{SOCKET}"),
        "--token".to_owned(),
        token.to_owned(),
        "--memory-bytes-max".to_owned(),
        order.memory_bytes_max.to_string(),
        "--open-files-max".to_owned(),
        order.open_files_max.to_string(),
        "--file-bytes-max".to_owned(),
        order.file_bytes_max.to_string(),
    ];
    words.into_iter().chain((!network).then(|| "--without-network".to_owned())).collect()
}

fn labels(settings: &DockerSettings, incarnation: &str, order: &StartOrder) -> HashMap<String, String> {
    let slot = order.id.slot.to_string();
    let generation = order.id.generation.to_string();
    let labels = [
        (CLUSTER, settings.cluster.as_str()),
        (NODE, settings.node.as_str()),
        (INCARNATION, incarnation),
        (SLOT, slot.as_str()),
        (GENERATION, generation.as_str()),
    ];
    labels.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// The filter for all containers of a node, and of no other.
pub fn of_node(settings: &DockerSettings) -> Vec<String> {
    vec![format!("{CLUSTER}={}", settings.cluster), format!("{NODE}={}", settings.node)]
}

/// The filter for the containers of one slot.
pub fn of_slot(settings: &DockerSettings, slot: u32) -> Vec<String> {
    let mut labels = of_node(settings);
    labels.push(format!("{SLOT}={slot}"));
    labels
}
