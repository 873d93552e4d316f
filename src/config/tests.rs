use super::*;

#[test]
fn defaults_are_valid() {
    Config::defaults().unwrap().validate().unwrap();
}

#[test]
fn a_rule_names_its_key() {
    let mut config = Config::defaults().unwrap();
    config.bus.in_progress_every_s = 20;
    assert!(config.validate().unwrap_err().to_string().starts_with("bus.in_progress_every_s is 20"));
}

#[test]
fn secrets_are_not_shown() {
    let mut config = Config::defaults().unwrap();
    config.admin.username = "root".to_owned();
    assert!(config.validate().unwrap_err().to_string().starts_with("admin.password"));
    config.admin.password = Hidden("seven lamps".to_owned());
    config.validate().unwrap();
    assert!(!format!("{config:?}").contains("lamps"));
    assert!(!serde_json::to_string(&config).unwrap().contains("lamps"));
}

#[test]
fn deadline_grows_with_pixels() {
    let config = Config::defaults().unwrap();
    assert_eq!(config.deadline(Some(12_000_000)), Duration::from_secs(180));
    assert_eq!(config.deadline(None), Duration::from_secs(620));
}
