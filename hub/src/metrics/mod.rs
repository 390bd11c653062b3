//! What `/metrics` shows of the hub, under Flux's names where the meaning is equal: this process's own structures are
//! read when asked ([`live`]), the fleet is counted in the store ([`fleet`]), statements are timed where they are asked
//! ([`statements`]).

mod fleet;
mod live;
pub mod statements;

use prometheus_client::registry::Registry;

pub use fleet::Fleet;
pub use live::Live;

/// The registry of this hub.
pub fn registry(live: Live, fleet: Fleet) -> Registry {
    let mut registry = Registry::default();
    statements::register(&mut registry);
    registry.register_collector(Box::new(live));
    registry.register_collector(Box::new(fleet));
    registry
}
