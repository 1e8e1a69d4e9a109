//! What the master tells over HTTP at `--admin-bind`: whether it and its workers serve, metrics, status, and a page to look
//! at. All of it is read-only, and answered from what the master knows and the scoreboard shows, so that nobody who asks
//! waits for a worker.
//!
//! Bytes in, bytes out; connections are `program::door`'s.
#![forbid(unsafe_code)]

mod metrics;
mod page;
mod request;
mod response;
mod snapshot;
mod status;

use self::request::{Method, Request, Unsound};
use self::response::Response;
use self::snapshot::Snapshot;
pub use self::snapshot::{About, Facts};
use crate::master::{ServerStage, View};

/// Answers a request; `None` if the bytes are not a whole one yet. `is_loopback` says where it came in.
pub fn answer(bytes: &[u8], is_loopback: bool, facts: &Facts<'_>) -> Option<Vec<u8>> {
    let (response, is_head) = match Request::parse(bytes) {
        Ok(request) => (respond(&request, is_loopback, facts), request.method == Method::Head),
        Err(Unsound::Incomplete) => return None,
        Err(Unsound::Malformed) => (Response::text(400, "the request is malformed"), false),
    };
    Some(response.to_bytes(is_head))
}

fn respond(request: &Request<'_>, is_loopback: bool, facts: &Facts<'_>) -> Response {
    let render = match request.path {
        "/healthz" => |_: &Facts<'_>| Response::text(200, "ok"),
        "/readyz" => |facts: &Facts<'_>| readiness(facts.view),
        "/metrics" => |facts: &Facts<'_>| metrics::response(&Snapshot::take(facts)),
        "/status.json" => |facts: &Facts<'_>| status::response(&Snapshot::take(facts)),
        "/" => |facts: &Facts<'_>| page::response(&Snapshot::take(facts)),
        _ => return Response::text(404, "there are /, /healthz, /readyz, /metrics and /status.json"),
    };
    if request.method == Method::Other {
        return Response::text(405, "GET and HEAD are all there is").with("Allow", "GET, HEAD");
    }
    // A web page of any site can have its name lead here in the browser of somebody on this machine (DNS rebinding), and
    // would read what that person may read. It cannot choose the Host. Whether the server lives is no secret, and checks
    // of load balancers come with any Host.
    let tells_much = !matches!(request.path, "/healthz" | "/readyz");
    if is_loopback && tells_much && !request.names_local_host() {
        return Response::text(421, "at a loopback address, ask for localhost or for the address itself");
    }
    render(facts)
}

/// Whether requests should be sent to the server, and why not.
fn readiness(view: &View) -> Response {
    match unreadiness(view) {
        None => Response::text(200, "ready"),
        Some(reason) => Response::text(503, reason),
    }
}

fn unreadiness(view: &View) -> Option<&'static str> {
    match view.stage {
        ServerStage::Starting => Some("starting: no worker is ready yet"),
        ServerStage::Stopping => Some("stopping"),
        ServerStage::Serving if view.ready == 0 => Some("no worker is ready"),
        ServerStage::Serving => None,
    }
}
