//! unavailable
