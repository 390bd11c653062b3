//! Sources: where desired state comes from. Each kind offers a cheap probe ("what is the newest revision?") and a
//! fetch into something that can be packaged. None of this knows the store or the tasks that call it.

pub mod git;
pub mod transport;
