//! The tracker from the outside: segments in, observations out.

mod conversations;
mod live;
mod loss;
mod properties;
mod secure;
mod smuggling;
mod talk;
