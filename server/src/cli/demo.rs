//! demo: placeholder
