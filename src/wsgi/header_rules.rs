//! [`HeaderRules`]: what a header name means to the environ, by who sends it. The rules are gunicorn's; where two of
//! its settings leave a client room to speak for a proxy, the stricter reading is taken.

use crate::settings::{HeaderMap, HeaderNames, Proxies, TrustedHeaders};

/// What the settings say of header names.
#[derive(Clone, Debug)]
pub struct HeaderRules {
    /// Upper-case name, and the value that says HTTPS.
    scheme: Vec<(String, String)>,
    forwarder: HeaderNames,
    underscore: Fate,
    /// Which forwarding headers a proxy in front sets; `None` if they are fields like any other.
    forwarding: Option<TrustedHeaders>,
    /// SCRIPT_NAME of requests that do not bring one of their own.
    pub(super) mount: Vec<u8>,
}

/// What becomes of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// The application sees it.
    Pass,
    /// The application does not see it.
    Drop,
    /// Its request is refused.
    Refuse,
}

/// How fields of one name are treated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Treatment {
    /// From a trusted peer.
    pub(super) trusted: Fate,
    /// From anybody else.
    pub(super) untrusted: Fate,
    /// From a trusted peer, whether it says HTTPS, by the rule of this index.
    pub(super) scheme: Option<u16>,
    /// From a trusted peer, it is where the application is mounted.
    pub(super) is_mount: bool,
}

impl Treatment {
    const PASS: Self = Self { trusted: Fate::Pass, untrusted: Fate::Pass, scheme: None, is_mount: false };

    /// The fate of a field of which nothing else is to be known, whoever sends it.
    pub(super) fn common(self) -> Option<Fate> {
        let is_common = self.trusted == self.untrusted && self.scheme.is_none() && !self.is_mount;
        is_common.then_some(self.trusted)
    }
}

impl HeaderRules {
    /// `mount` is the process' variable SCRIPT_NAME.
    pub fn new(proxies: &Proxies, mount: Vec<u8>) -> Self {
        Self {
            scheme: proxies.secure_scheme_headers.0.clone(),
            forwarder: proxies.forwarder_headers.clone(),
            underscore: match proxies.header_map {
                HeaderMap::Drop => Fate::Drop,
                HeaderMap::Refuse => Fate::Refuse,
                HeaderMap::Dangerous => Fate::Pass,
            },
            forwarding: proxies.trusted_proxy_headers,
            mount,
        }
    }

    /// Looks at a name as it was sent. It costs some time, so the answer is kept.
    pub(super) fn treatment(&self, name: &[u8]) -> Treatment {
        let name = String::from_utf8_lossy(name).to_ascii_uppercase();
        // It has been decoded away.
        if name == "TRANSFER-ENCODING" {
            return Treatment { trusted: Fate::Drop, untrusted: Fate::Drop, ..Treatment::PASS };
        }
        let mut treatment = Treatment::PASS;
        if name.contains('_') {
            // It would get the key of the name with hyphens: so a client could forge what a proxy sets.
            let is_listed = self.is_forwarder_header(&name);
            treatment.untrusted = self.underscore;
            treatment.trusted = if is_listed { Fate::Pass } else { self.underscore };
            treatment.is_mount = is_listed && name == "SCRIPT_NAME";
        }
        treatment.scheme = self.scheme.iter().position(|(known, _)| *known == name).map(|index| index as u16);
        if let Some(trusted) = self.forwarding {
            govern(&mut treatment, trusted, &name);
        }
        treatment
    }

    fn is_forwarder_header(&self, name: &str) -> bool {
        match &self.forwarder {
            HeaderNames::Any => true,
            HeaderNames::Listed(names) => names.iter().any(|listed| listed == name),
        }
    }

    /// Whether the value of a scheme header says HTTPS. It is to be exactly the one of the settings.
    pub(super) fn is_https(&self, scheme: u16, value: &[u8]) -> bool {
        self.scheme.get(usize::from(scheme)).is_some_and(|(_, secure)| secure.as_bytes() == value)
    }
}

/// The forwarding headers have rules of their own once it is said which of them the proxies set: nobody else's are seen.
fn govern(treatment: &mut Treatment, trusted: TrustedHeaders, name: &str) {
    let spelled = name.replace('_', "-");
    if spelled != "FORWARDED" && !spelled.starts_with("X-FORWARDED-") {
        return;
    }
    if treatment.untrusted == Fate::Pass {
        treatment.untrusted = Fate::Drop;
    }
    let is_set_by_proxies = match spelled.as_str() {
        "FORWARDED" => trusted.forwarded,
        "X-FORWARDED-FOR" => trusted.x_forwarded_for,
        "X-FORWARDED-HOST" => trusted.x_forwarded_host,
        "X-FORWARDED-PROTO" => trusted.x_forwarded_proto,
        "X-FORWARDED-PORT" => trusted.x_forwarded_port,
        "X-FORWARDED-BY" => trusted.x_forwarded_by,
        // X-Forwarded-Ssl and others of which these settings say nothing.
        _ => return,
    };
    // `http::forwarded` reads it, or nobody.
    treatment.scheme = None;
    // With an underscore it would be joined to the one that was read.
    if treatment.trusted == Fate::Pass && (!is_set_by_proxies || name.contains('_')) {
        treatment.trusted = Fate::Drop;
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::settings::{ProxyProtocol, SchemeHeaders, Trust};

    /// gunicorn's defaults, changed.
    pub(in crate::wsgi) fn rules(change: impl FnOnce(&mut Proxies)) -> HeaderRules {
        let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let mut proxies = Proxies {
            forwarded_allow: Trust::Networks(Vec::new()),
            secure_scheme_headers: SchemeHeaders(vec![
                header("X-FORWARDED-PROTOCOL", "ssl"),
                header("X-FORWARDED-PROTO", "https"),
                header("X-FORWARDED-SSL", "on"),
            ]),
            forwarder_headers: HeaderNames::Listed(vec!["SCRIPT_NAME".into(), "PATH_INFO".into()]),
            header_map: HeaderMap::Drop,
            trusted_proxy_headers: None,
            trusted_proxy_count: 1,
            proxy_protocol: ProxyProtocol::Off,
            proxy_allow: Trust::Networks(Vec::new()),
        };
        change(&mut proxies);
        HeaderRules::new(&proxies, Vec::new())
    }

    fn fates(rules: &HeaderRules, name: &str) -> (Fate, Fate) {
        let treatment = rules.treatment(name.as_bytes());
        (treatment.trusted, treatment.untrusted)
    }

    #[test]
    fn names_with_underscores() {
        use Fate::{Drop, Pass, Refuse};
        let by_default = rules(|_| ());
        for (name, expected) in [
            ("Host", (Pass, Pass)),
            ("Transfer-Encoding", (Drop, Drop)),
            ("X_Forwarded_For", (Drop, Drop)),
            ("script_name", (Pass, Drop)),
            ("Path_Info", (Pass, Drop)),
            ("Script-Name", (Pass, Pass)),
            ("SCRIPT_NAME_", (Drop, Drop)),
        ] {
            assert_eq!(fates(&by_default, name), expected, "{name}");
        }
        let any = rules(|proxies| proxies.forwarder_headers = HeaderNames::Any);
        assert_eq!(fates(&any, "Remote_User"), (Pass, Drop));
        let refusing = rules(|proxies| proxies.header_map = HeaderMap::Refuse);
        assert_eq!(fates(&refusing, "Remote_User"), (Refuse, Refuse));
        assert_eq!(fates(&refusing, "SCRIPT_NAME"), (Pass, Refuse));
        let dangerous = rules(|proxies| proxies.header_map = HeaderMap::Dangerous);
        assert_eq!(fates(&dangerous, "Remote_User"), (Pass, Pass));
        assert_eq!(fates(&dangerous, "Transfer-Encoding"), (Drop, Drop));
    }

    #[test]
    fn where_it_is_mounted() {
        let is_mount = |rules: &HeaderRules, name: &str| rules.treatment(name.as_bytes()).is_mount;
        assert!(is_mount(&rules(|_| ()), "Script_Name"));
        assert!(!is_mount(&rules(|_| ()), "Script-Name"));
        // gunicorn takes it from anybody here.
        let dangerous = rules(|proxies| {
            proxies.header_map = HeaderMap::Dangerous;
            proxies.forwarder_headers = HeaderNames::Listed(Vec::new());
        });
        assert!(!is_mount(&dangerous, "SCRIPT_NAME"));
    }

    #[test]
    fn forwarding_headers_that_are_set_by_a_proxy_or_by_nobody() {
        use Fate::{Drop, Pass};
        let trusted = TrustedHeaders { x_forwarded_for: true, ..TrustedHeaders::default() };
        let governed = rules(|proxies| {
            proxies.trusted_proxy_headers = Some(trusted);
            proxies.header_map = HeaderMap::Dangerous;
        });
        for (name, expected) in [
            ("X-Forwarded-For", (Pass, Drop)),
            ("X_Forwarded_For", (Drop, Drop)),
            ("X-Forwarded-Host", (Drop, Drop)),
            ("X-Forwarded-Proto", (Drop, Drop)),
            ("Forwarded", (Drop, Drop)),
            ("X-Forwarded-Prefix", (Pass, Drop)),
            ("X-Real-IP", (Pass, Pass)),
        ] {
            assert_eq!(fates(&governed, name), expected, "{name}");
        }
        assert_eq!(governed.treatment(b"X-Forwarded-Proto").scheme, None);
        assert!(governed.treatment(b"X-Forwarded-Ssl").scheme.is_some());
        assert!(rules(|_| ()).treatment(b"x-forwarded-proto").common().is_none());
    }
}
