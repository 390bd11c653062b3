//! A hub, agents and clusters as they run: one program, so that stories that mostly wait do so side by side.

mod faults;
mod frozen;
mod main_job;
mod removal;
mod renewal;
mod sim;
