//! The tracker from the outside: segments in, observations out.

mod conversations;
mod live;
mod loss;
mod properties;
mod smuggling;
mod talk;
