//! What a node tells of itself: `GET /` and `GET /status`, cut to what matters here.

use serde_json::{Value, json};
use uuid::Uuid;

/// `GET /` of a node that listens at no proxy port yet.
pub(super) fn root() -> Value {
    json!({
        "version": "3.9.3",
        "edition": "community",
        "tagline": "Welcome to kong",
        "hostname": "kong",
        "node_id": Uuid::new_v4().to_string(),
        "pids": { "master": 21234, "workers": [21235, 21236] },
        "configuration": {
            "database": "postgres",
            "role": "traditional",
            "db_update_frequency": 5,
            "db_update_propagation": 0,
            "db_cache_ttl": 0,
            "prefix": "/usr/local/kong",
            "declarative_config": null,
            "nginx_pid": "/usr/local/kong/pids/nginx.pid",
            "proxy_listeners": [],
        },
    })
}

/// An entry of `configuration.proxy_listeners` for TLS.
pub(super) fn tls_listener(ip: &str, port: u16) -> Value {
    json!({
        "ip": ip,
        "port": port,
        "listener": format!("{ip}:{port} ssl"),
        "ssl": true,
        "http2": false,
        "proxy_protocol": false,
        "reuseport": false,
        "deferred": false,
        "bind": false,
    })
}

/// Tells of an entry of `configuration.proxy_listeners` whether it demands a PROXY header.
pub(super) fn set_proxy_protocol(listener: &mut Value, demand: bool) {
    let text = listener["listener"].as_str().unwrap_or_default();
    let without = text.trim_end_matches(" proxy_protocol");
    let flag = if demand { " proxy_protocol" } else { "" };
    listener["listener"] = json!(format!("{without}{flag}"));
    listener["proxy_protocol"] = json!(demand);
}

/// `GET /status`. With a database its reachability, without one the hash of the configuration.
pub(super) fn status(key: &str, value: &Value) -> Value {
    let dict = |capacity: &str| json!({ "allocated_slabs": "0.04 MiB", "capacity": capacity });
    json!({
        key: value,
        "memory": {
            "workers_lua_vms": [
                { "pid": 21235, "http_allocated_gc": "62.14 MiB" },
                { "pid": 21236, "http_allocated_gc": "46.10 MiB" },
            ],
            "lua_shared_dicts": {
                "kong": dict("5.00 MiB"),
                "kong_locks": dict("8.00 MiB"),
                "kong_healthchecks": dict("5.00 MiB"),
                "kong_cluster_events": dict("5.00 MiB"),
                "kong_rate_limiting_counters": dict("12.00 MiB"),
                "kong_core_db_cache": dict("128.00 MiB"),
                "kong_core_db_cache_miss": dict("12.00 MiB"),
                "kong_db_cache": dict("128.00 MiB"),
                "kong_db_cache_miss": dict("12.00 MiB"),
                "kong_secrets": dict("5.00 MiB"),
                "prometheus_metrics": dict("5.00 MiB"),
            },
        },
        "server": {
            "connections_waiting": 0,
            "total_requests": 118,
            "connections_active": 3,
            "connections_handled": 121,
            "connections_reading": 0,
            "connections_accepted": 121,
            "connections_writing": 3,
        },
    })
}
