//! A configuration file that is TOML → names and values, as a Python file has them.

use std::path::Path;

use toml::{Table, Value as Toml};

use super::python_file::Value;

/// What it says; of a pyproject.toml, what its table `[tool.minicorn]` says.
///
/// The error is a clause behind the name of the file.
pub(super) fn read(path: &Path, is_project: bool) -> Result<Table, String> {
    let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
    let table = parse(&text)?;
    if is_project { ours(table).ok_or_else(|| "it has no table [tool.minicorn]".to_owned()) } else { Ok(table) }
}

/// The same in the kinds that a setting may have.
pub(super) fn values(table: Table) -> Result<Vec<(String, Value)>, String> {
    let convert = |(key, value): (String, Toml)| match convert(&key, value) {
        Ok(value) => Ok((key, value)),
        Err(problem) => Err(format!("'{key}' is {problem}")),
    };
    table.into_iter().map(convert).collect()
}

/// Whether a pyproject.toml that was not asked for is to be read. If it cannot be parsed, its text decides: other tools
/// may have their own trouble with it.
pub(super) fn mentions_us(path: &Path) -> bool {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    match parse(&text) {
        Ok(table) => ours(table).is_some(),
        Err(_) => text.contains("tool.minicorn"),
    }
}

fn ours(mut project: Table) -> Option<Table> {
    match project.remove("tool")? {
        Toml::Table(mut tools) => match tools.remove("minicorn")? {
            Toml::Table(own) => Some(own),
            _ => None,
        },
        _ => None,
    }
}

fn parse(text: &str) -> Result<Table, String> {
    text.parse::<Table>().map_err(|error| {
        let line = error.span().map_or(0, |span| text[..span.start.min(text.len())].matches('\n').count()) + 1;
        let message = error.message().lines().next().unwrap_or_default();
        format!("line {line}: it is not TOML: {message}")
    })
}

/// The error names the kind of a value that no setting has.
fn convert(key: &str, value: Toml) -> Result<Value, &'static str> {
    Ok(match value {
        Toml::Boolean(flag) => Value::Flag(flag),
        Toml::Array(items) => Value::List(items.into_iter().map(scalar).collect::<Option<_>>().ok_or(MIXED_LIST)?),
        Toml::Table(table) if key.replace('-', "_").ends_with("config_dict") => {
            Value::Text(serde_json::to_string(&table).map_err(|_| "a table that JSON cannot have")?)
        }
        Toml::Table(table) => {
            let pairs = table.into_iter().map(|(name, value)| Some((name, scalar(value)?)));
            Value::Map(pairs.collect::<Option<_>>().ok_or("a table of other things than texts and numbers")?)
        }
        other => Value::Text(scalar(other).ok_or("a date")?),
    })
}

const MIXED_LIST: &str = "a list of other things than texts and numbers";

fn scalar(value: Toml) -> Option<String> {
    match value {
        Toml::String(text) => Some(text),
        Toml::Integer(number) => Some(number.to_string()),
        Toml::Float(number) => Some(number.to_string()),
        Toml::Boolean(_) | Toml::Datetime(_) | Toml::Array(_) | Toml::Table(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_of_values() {
        let table = parse("a = 'x'\nb = 4\nc = 0.5\nd = true\ne = ['x', 1]\nf = {A = 'b', C = 1}\numask = 0o22")
            .expect("sound");
        let text = |text: &str| Value::Text(text.into());
        let expected = [
            ("a", text("x")),
            ("b", text("4")),
            ("c", text("0.5")),
            ("d", Value::Flag(true)),
            ("e", Value::List(vec!["x".into(), "1".into()])),
            ("f", Value::Map(vec![("A".into(), "b".into()), ("C".into(), "1".into())])),
            ("umask", text("18")),
        ];
        for ((key, value), (name, expected)) in table.into_iter().zip(expected) {
            assert_eq!((key.as_str(), convert(&key, value)), (name, Ok(expected)));
        }
    }

    #[test]
    fn a_dict_for_logging_becomes_json() {
        let table = parse("[logconfig_dict]\nversion = 1\n[logconfig_dict.root]\nlevel = 'INFO'\n").expect("sound");
        let (key, value) = table.into_iter().next().expect("one key");
        let json = r#"{"root":{"level":"INFO"},"version":1}"#;
        assert_eq!(convert(&key, value), Ok(Value::Text(json.into())));
    }

    #[test]
    fn an_error_names_its_line() {
        let error = parse("workers = 4\n\nbind = = 1\n").expect_err("it is no TOML");
        assert!(error.starts_with("line 3: it is not TOML: "), "{error}");
    }
}
