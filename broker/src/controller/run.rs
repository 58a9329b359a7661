//! The controller's single event loop over coordination store and brokers.

/// The handle by which APIs reach the controller of this broker (active or not).
pub struct Controller {
    _private: (),
}
