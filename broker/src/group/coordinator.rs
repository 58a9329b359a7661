//! The group coordinator: loads, routes, arms timers, appends.

pub struct GroupCoordinator {
    _private: (),
}
