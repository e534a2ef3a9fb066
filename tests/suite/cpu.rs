//! The CPU backend beyond parity.
