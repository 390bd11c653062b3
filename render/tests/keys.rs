//! Keys, certificates and ciphertexts: Go reads what the engine makes and finds it to say what Helm's own
//! says, and the engine reads what Helm makes.

use std::collections::BTreeMap;

use base64::Engine as _;
use flotilla_render_tests::Oracle;
use flotilla_render_tests::rendered::{ours, theirs, within_steps};
use serde_json::json;

const SEPARATOR: &str = "=====";

/// Splits what a template printed.
fn parts(text: &str) -> Vec<&str> {
    text.split(SEPARATOR).collect()
}

/// Asks what a certificate says; the answer holds nothing random.
fn described(oracle: &mut Oracle, certificate: &str, key: &str, authority: Option<&str>) -> String {
    let encoded = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
    let mut files = BTreeMap::from([("cert", encoded(certificate)), ("key", encoded(key))]);
    if let Some(authority) = authority {
        files.insert("ca", encoded(authority));
    }
    oracle
        .ask(&json!({ "op": "certificate", "files": files }))
        .unwrap_or_else(|cause| panic!("{cause}: {certificate}"))
        .text
}

/// Renders the template in both engines, and compares what the certificates it prints say: the certificate, its
/// key, and the certificate that signed it when it is another.
fn compare(template: &str) {
    let mut oracle = Oracle::start();
    let (ours, theirs) = (ours(template), theirs(&mut oracle, template));
    let (ours, theirs) = (ours.expect("ours"), theirs.expect("theirs"));
    let mut describe = |text: &str| {
        let parts = parts(text);
        described(&mut oracle, parts[0], parts[1], parts.get(2).copied())
    };
    assert_eq!(describe(&ours), describe(&theirs), "{template}");
}

/// The end of a template that prints the certificate in `$c`.
const PRINT: &str = "{{ $c.Cert }}====={{ $c.Key }}";

#[test]
fn an_authority_says_what_helms_says() {
    compare(&format!("{{{{ $c := genCA \"foo-ca\" 365 }}}}{PRINT}"));
    for kind in ["ecdsa", "ed25519"] {
        let key = format!("{{{{ $k := genPrivateKey \"{kind}\" }}}}");
        for name in ["foo-ca", "", "müller", "a*b", "x@y.z", "o'n (1), +/-.:=?"] {
            compare(&format!(
                "{key}{{{{ $c := genCAWithKey \"{name}\" 36500 $k }}}}{PRINT}"
            ));
        }
    }
}

#[test]
fn a_self_signed_certificate_says_what_helms_says() {
    compare(&format!(
        "{{{{ $c := genSelfSignedCert \"foo\" (list \"10.0.0.1\" \"fe80::1\" \"::ffff:1.2.3.4\") (list \"a.b\" \"*.c\") 30 }}}}{PRINT}"
    ));
    let key = "{{ $k := genPrivateKey \"ecdsa\" }}";
    for arguments in [
        "\"\" nil (list \"only.a.name\") 1",
        "\"foo\" (list) nil 0",
        "\"foo\" nil (list \"\") 106751",
        "\"foo\" nil nil 106752",
        "\"foo\" nil nil 9000",
    ] {
        compare(&format!(
            "{key}{{{{ $c := genSelfSignedCertWithKey {arguments} $k }}}}{PRINT}"
        ));
    }
}

#[test]
fn a_signed_certificate_is_verified_against_its_authority() {
    let signed = "{{ $c := genSignedCert \"foo\" (list \"10.0.0.1\") (list \"a.b\" \"c\") 10 $ca }}";
    let with_key =
        "{{ $c := genSignedCertWithKey \"foo\" nil (list \"a.b\") 10 $ca (genPrivateKey \"ed25519\") }}";
    for kind in ["ecdsa", "ed25519"] {
        let authority = format!("{{{{ $ca := genCAWithKey \"foo-ca\" 365 (genPrivateKey \"{kind}\") }}}}");
        for leaf in [signed, with_key] {
            compare(&format!("{authority}{leaf}{PRINT}====={{{{ $ca.Cert }}}}"));
        }
    }
    let authority = "{{ $ca := genCA \"foo-ca\" 365 }}";
    compare(&format!("{authority}{with_key}{PRINT}====={{{{ $ca.Cert }}}}"));
}

#[test]
fn an_authority_that_helm_made_signs_here() {
    let mut oracle = Oracle::start();
    for authority in [
        "genCA \"helm-ca\" 36500",
        "genCAWithKey \"helm-ca\" 36500 (genPrivateKey \"ecdsa\")",
        "genCAWithKey \"helm-ca\" 36500 (genPrivateKey \"ed25519\")",
    ] {
        let printed = theirs(&mut oracle, &format!("{{{{ $c := {authority} }}}}{PRINT}")).expect("theirs");
        let (certificate, key) = (parts(&printed)[0], parts(&printed)[1]);
        let template = format!(
            "{{{{ $ca := buildCustomCert (b64enc `{certificate}`) (b64enc `{key}`) }}}}\
             {{{{ $c := genSignedCertWithKey \"leaf\" nil (list \"a.b\") 36500 $ca (genPrivateKey \"ecdsa\") }}}}{PRINT}"
        );
        let leaf = ours(&template).expect("ours");
        let said = described(&mut oracle, parts(&leaf)[0], parts(&leaf)[1], Some(certificate));
        assert!(said.contains("names [\"a.b\"]"), "{said}");
    }
}

#[test]
fn an_authority_made_here_signs_in_helm() {
    let mut oracle = Oracle::start();
    for authority in [
        "genCA \"our-ca\" 36500",
        "genCAWithKey \"our-ca\" 36500 (genPrivateKey \"ecdsa\")",
    ] {
        let printed = ours(&format!("{{{{ $c := {authority} }}}}{PRINT}")).expect("ours");
        let (certificate, key) = (parts(&printed)[0], parts(&printed)[1]);
        let template = format!(
            "{{{{ $ca := buildCustomCert (b64enc `{certificate}`) (b64enc `{key}`) }}}}\
             {{{{ $c := genSignedCertWithKey \"leaf\" nil (list \"a.b\") 36500 $ca (genPrivateKey \"ecdsa\") }}}}{PRINT}"
        );
        let leaf = theirs(&mut oracle, &template).expect("theirs");
        described(&mut oracle, parts(&leaf)[0], parts(&leaf)[1], Some(certificate));
    }
}

#[test]
fn private_keys_are_what_go_writes() {
    let mut oracle = Oracle::start();
    let expected = [
        ("rsa", "RSA PRIVATE KEY: 4096 bits, exponent 65537, 2 primes"),
        ("ecdsa", "EC PRIVATE KEY: P-256"),
        ("ed25519", "PRIVATE KEY: ed25519"),
        ("dsa", "DSA PRIVATE KEY: 2048 over 256 bits, true true true true"),
    ];
    for (kind, expected) in expected {
        let key = ours(&format!("{{{{ genPrivateKey \"{kind}\" }}}}")).expect("ours");
        assert_eq!(oracle.text("private_key", &key).as_deref(), Ok(expected));
    }
}

#[test]
fn a_dsa_key_signs_nothing_as_in_helm() {
    let mut oracle = Oracle::start();
    let key = ours("{{ genPrivateKey \"dsa\" }}").expect("ours");
    for function in ["genCAWithKey \"a\" 1", "genSelfSignedCertWithKey \"a\" nil nil 1"] {
        let template = format!("{{{{ {function} `{key}` }}}}");
        let said = ours(&template).expect_err("refused");
        assert!(
            said.contains("x509: certificate private key does not implement crypto.Signer"),
            "{said}"
        );
        assert_eq!(Err(said), theirs(&mut oracle, &template));
    }
    let leaf = format!(
        "{{{{ $ca := genCAWithKey \"a\" 1 (genPrivateKey \"ecdsa\") }}}}{{{{ genSignedCertWithKey \"a\" nil nil 1 $ca `{key}` }}}}"
    );
    assert_eq!(ours(&leaf), theirs(&mut oracle, &leaf));
}

#[test]
fn each_engine_decrypts_what_the_other_encrypted() {
    let mut oracle = Oracle::start();
    for text in ["a", "sixteen bytes ok", "two\nlines é", &"long ".repeat(99)] {
        let encrypt = format!("{{{{ encryptAES \"secret\" {text:?} }}}}");
        let theirs_encrypted = theirs(&mut oracle, &encrypt).expect("theirs");
        let ours_encrypted = ours(&encrypt).expect("ours");
        let decrypt = |encrypted: &str| format!("{{{{ decryptAES \"secret\" \"{encrypted}\" }}}}");
        assert_eq!(ours(&decrypt(&theirs_encrypted)).as_deref(), Ok(text));
        assert_eq!(
            theirs(&mut oracle, &decrypt(&ours_encrypted)).as_deref(),
            Ok(text)
        );
    }
}

#[test]
fn the_seed_decides_keys_and_certificates() {
    let every = "{{ range list \"ecdsa\" \"ed25519\" }}{{ genPrivateKey . }}{{ end }}{{ encryptAES \"k\" \"x\" }}{{ (genCA \"a\" 1).Cert }}";
    let at_once = || within_steps(every, 1_000_000).expect("ours");
    assert_eq!(at_once(), at_once());
    let two = ours("{{ genPrivateKey \"ecdsa\" }}====={{ genPrivateKey \"ecdsa\" }}").expect("ours");
    assert_ne!(parts(&two)[0], parts(&two)[1]);
}

#[test]
fn making_keys_without_end_is_stopped() {
    for call in [
        "genPrivateKey \"rsa\"",
        "genCA \"a\" 1",
        "derivePassword 1 \"pin\" \"a\" \"b\" \"c\"",
    ] {
        let template = format!("{{{{ range until 100000 }}}}{{{{ $_ := {call} }}}}{{{{ end }}}}");
        let said = within_steps(&template, 100_000).expect_err("stopped");
        assert!(said.contains("more than 100000 steps"), "{said}");
    }
}
