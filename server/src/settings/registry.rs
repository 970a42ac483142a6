//! Settings of the schema registry, which stand in `[kafka]` of tidemill.toml.

use super::s3::Secret;

/// Where schemas of messages are registered. No address: nowhere.
#[derive(Clone, Debug, Default)]
pub struct RegistrySettings {
    /// one or several of the same registry
    pub urls: Vec<String>,
    /// who asks
    pub user: Option<String>,
    /// and proves it
    pub password: Option<Secret>,
}

/// Whether the value of a key is a secret.
pub(super) fn is_secret(key: &str) -> bool {
    key == "kafka.registry_password"
}

/// Reads the keys of the registry. Err: the key that is wrong, and what was expected.
pub(super) fn section(text: &dyn Fn(&str) -> String) -> Result<RegistrySettings, (&'static str, &'static str)> {
    let given = |key: &str| Some(text(key)).filter(|value| !value.is_empty());
    let all = text("kafka.registry");
    let urls: Vec<String> = all.split(',').map(|url| url.trim().to_string()).filter(|url| !url.is_empty()).collect();
    let is_url = |url: &String| url.starts_with("http://") || url.starts_with("https://");
    if urls.iter().any(|url| !is_url(url) || url.contains('@')) {
        let expected = "URLs such as https://schemas.example.com:8081, separated by commas, without credentials";
        return Err(("kafka.registry", expected));
    }
    let (user, password) = (given("kafka.registry_user"), given("kafka.registry_password"));
    if password.is_some() && user.is_none() {
        return Err(("kafka.registry_user", "a value, because registry_password is set"));
    }
    Ok(RegistrySettings { urls, user, password: password.map(Secret::new) })
}
