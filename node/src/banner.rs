//! What a person reads who has just started `trine`.

use std::io::{self, Write};

use trine_node::app::Announcement;
use trine_node::config::{Config, RootKey, SecretPlace};
use trine_node::tls::{CA_NAME, TlsSource};

/// Print where the endpoint is and what to paste to use it.
pub(crate) fn print(announcement: &Announcement, config: &Config, key: &RootKey) {
    let text = text(announcement, config, key);
    let mut out = io::stdout().lock();
    // Standard output may be closed: the endpoint serves all the same.
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

fn text(announcement: &Announcement, config: &Config, key: &RootKey) -> String {
    let scheme = if config.tls.is_some() { "https" } else { "http" };
    let endpoint = format!("{scheme}://{}", announcement.address);
    // Clients do not know a CA of our own.
    let (ca, trust) = match &config.tls {
        Some(TlsSource::PrivateCa { directory, .. }) => {
            let ca = directory.join(CA_NAME);
            let absolute = std::path::absolute(&ca).unwrap_or_else(|_| ca.clone());
            let trust = format!("\x20 export AWS_CA_BUNDLE={}\n", absolute.display());
            (format!("\x20 private CA  {}\n", ca.display()), trust)
        }
        _ => (String::new(), String::new()),
    };
    let who = match &config.node {
        None => "three zones, one process".to_owned(),
        Some(plan) => {
            let own = plan.own();
            format!("node {} of zone {}", own.name, own.zone.letter())
        }
    };
    let ready = if announcement.answering {
        format!("Trine is ready: {who}.")
    } else {
        format!(
            "Trine listens ({who}), and no two zones have answered yet: requests wait for them."
        )
    };
    // A secret that the operator set is known to them, and does not belong on a terminal.
    let (secret, export) = match &config.secret {
        SecretPlace::Kept => (key.secret.clone(), key.secret.clone()),
        SecretPlace::Environment => {
            ("(as in the environment)".to_owned(), "\"$TRINE_ROOT_SECRET_KEY\"".to_owned())
        }
        SecretPlace::File(place) => (format!("(as in {place})"), format!("…   # see {place}")),
    };
    let data = config.data.display();
    let RootKey { access, .. } = key;
    let region = &config.region;
    format!(
        "{ready}\n\
         \n\
         \x20 endpoint    {endpoint}\n\
         \x20 access key  {access}\n\
         \x20 secret key  {secret}\n\
         \x20 data        {data}\n\
         {ca}\
         \n\
         To use it, paste:\n\
         \n\
         \x20 export AWS_ACCESS_KEY_ID={access}\n\
         \x20 export AWS_SECRET_ACCESS_KEY={export}\n\
         \x20 export AWS_DEFAULT_REGION={region}\n\
         {trust}\
         \x20 aws --endpoint-url {endpoint} s3 mb s3://demo\n\
         \x20 aws --endpoint-url {endpoint} s3 cp README.md s3://demo/\n\
         \x20 aws --endpoint-url {endpoint} s3 ls s3://demo/\n\
         \n\
         Ctrl-C stops it; what was stored stays in {data}.\n"
    )
}
