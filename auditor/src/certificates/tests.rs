use std::{net::IpAddr, path::PathBuf};

use proptest::{
    prelude::*,
    test_runner::{Config, RngSeed},
};
use rcgen::ExtendedKeyUsagePurpose;

use super::{
    sample::{Authority, DAY, NOW, Wanted},
    *,
};

const SVID: &str = "spiffe://prod.example/ns/shop/sa/cart";

fn bundle(text: &str) -> Result<Bundle, String> {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("ca.pem");
    std::fs::write(&file, text).expect("written");
    Bundle::read(&file).map_err(|problem| problem.replace(&directory.path().display().to_string(), ""))
}

fn reader(authorities: &[&Authority]) -> Reader {
    let text: String = authorities.iter().map(|authority| authority.pem()).collect();
    Reader::new(&[bundle(&text).expect("a bundle")])
}

fn trust(reader: &Reader, chain: &[Box<[u8]>]) -> Trust {
    reader.read(chain, true, Purpose::Client, NOW).expect("a certificate").trust
}

#[test]
fn says_what_a_certificate_says() {
    let authority = Authority::new("Shop CA");
    let der = authority.issue(&Wanted { uris: &[SVID], ..Wanted::default() });
    let chain = Reader::new(&[]).read(&[der], true, Purpose::Client, NOW).expect("a certificate");
    let spiffe_id = SpiffeId::parse(SVID);
    let expected = Certificate {
        subject: Some("CN=cart".into()),
        issuer: Some("CN=Shop CA".into()),
        dns_names: vec!["cart.internal".into()],
        uris: vec![SVID.into()],
        addresses: vec![IpAddr::from([10, 0, 0, 1])],
        spiffe_id: spiffe_id.clone(),
        key_kind: "ecdsa",
        key_bits: Some(256),
        not_before: NOW - DAY,
        not_after: NOW + 90 * DAY,
        self_signed: Some(false),
    };
    assert!(spiffe_id.is_some());
    assert_eq!(chain.leaf, expected);
    assert_eq!(chain.trust, Trust::Unknown, "no bundle is configured");
}

#[test]
fn two_uris_are_no_workload_identity() {
    let authority = Authority::new("CA");
    let of = |uris: &[&str]| read::certificate(&authority.issue(&Wanted { uris, ..Wanted::default() })).expect("read");
    assert!(of(&[SVID]).spiffe_id.is_some());
    assert_eq!(of(&[SVID, "https://elsewhere"]).spiffe_id, None);
    assert_eq!(of(&["https://elsewhere", SVID]).spiffe_id, None);
    assert_eq!(of(&["https://elsewhere"]).spiffe_id, None);
}

#[test]
fn names_are_bounded_in_number_and_length() {
    let authority = Authority::new("CA");
    let many: Vec<String> = (0..100).map(|at| format!("https://{at}.example/{}", "x".repeat(300))).collect();
    let uris: Vec<&str> = many.iter().map(String::as_str).collect();
    let facts = read::certificate(&authority.issue(&Wanted { uris: &uris, ..Wanted::default() })).expect("read");
    assert_eq!(facts.uris.len(), 16);
    assert!(facts.uris.iter().all(|uri| uri.len() <= 255));
    let name = "x\u{1b}[2J\u{202e}".repeat(100);
    let facts = read::certificate(&Wanted { subject: Some(&name), ..Wanted::default() }.self_signed()).expect("read");
    let subject = facts.subject.expect("a subject");
    assert!(subject.len() <= 255 && !subject.contains(['\u{1b}', '\u{202e}']), "{subject:?}");
}

#[test]
fn its_own_signature_is_told_from_an_issuers() {
    let own = read::certificate(&Wanted::default().self_signed()).expect("read");
    assert_eq!(own.self_signed, Some(true));
    // An issuer that has the name of what it issues did not sign it with the same key.
    let namesake = Authority::new("cart");
    assert_eq!(read::certificate(&namesake.issue(&Wanted::default())).expect("read").self_signed, None);
}

#[test]
fn a_chain_leads_to_a_bundle_or_it_does_not() {
    let (root, other) = (Authority::new("Root"), Authority::new("Other"));
    let between = root.below("Between", -DAY, 365 * DAY);
    let reader = reader(&[&root]);
    let leaf = between.issue(&Wanted::default());
    assert_eq!(trust(&reader, &[root.issue(&Wanted::default())]), Trust::Trusted);
    assert_eq!(trust(&reader, &[leaf.clone(), between.der()]), Trust::Trusted);
    let unknown = Trust::Untrusted("does not lead to a trusted issuer");
    assert_eq!(trust(&reader, std::slice::from_ref(&leaf)), unknown);
    assert_eq!(trust(&reader, &[other.issue(&Wanted::default())]), unknown);
    assert_eq!(trust(&reader, &[Wanted::default().self_signed()]), unknown);
    assert_eq!(
        trust(&self::reader(&[&between]), std::slice::from_ref(&leaf)),
        Trust::Trusted,
        "issuers in between may be trusted, too"
    );
    let cut = reader.read(&[leaf], false, Purpose::Client, NOW).expect("read").trust;
    assert_eq!(cut, Trust::Unknown, "what is missing may lead there");
}

#[test]
fn a_forged_issuer_is_found_out() {
    let (root, forged) = (Authority::new("Root"), Authority::new("Root"));
    let trust = trust(&reader(&[&root]), &[forged.issue(&Wanted::default())]);
    assert_eq!(trust, Trust::Untrusted("was not signed by the issuer it names"));
}

#[test]
fn an_expired_leaf_still_leads_to_its_issuer_and_an_expired_issuer_does_not_count() {
    let root = Authority::new("Root");
    let reader = reader(&[&root]);
    let expired = root.issue(&Wanted { from: -90 * DAY, until: -DAY, ..Wanted::default() });
    assert_eq!(trust(&reader, &[expired]), Trust::Trusted);
    let early = root.issue(&Wanted { from: DAY, until: 9 * DAY, ..Wanted::default() });
    assert_eq!(trust(&reader, &[early]), Trust::Trusted);
    let between = root.below("Between", -30 * DAY, -DAY);
    let leaf = between.issue(&Wanted::default());
    assert_eq!(trust(&reader, &[leaf, between.der()]), Trust::Untrusted("an issuer's certificate has expired"));
}

#[test]
fn what_stands_in_a_bundle_itself_is_trusted() {
    let (authority, other) = (Authority::new("Pinned"), Authority::new("Other"));
    assert_eq!(trust(&reader(&[&other, &authority]), &[authority.der()]), Trust::Trusted);
    assert_eq!(trust(&reader(&[&other]), &[authority.der()]), Trust::Untrusted("is an issuer's certificate"));
}

#[test]
fn the_purpose_counts() {
    let root = Authority::new("Root");
    let reader = reader(&[&root]);
    let server = Wanted { purpose: Some(ExtendedKeyUsagePurpose::ServerAuth), ..Wanted::default() };
    let chain = [root.issue(&server)];
    assert_eq!(trust(&reader, &chain), Trust::Untrusted("is not made for this purpose"));
    assert_eq!(reader.read(&chain, true, Purpose::Server, NOW).expect("read").trust, Trust::Trusted);
}

#[test]
fn a_storm_reads_a_certificate_once() {
    let reader = Reader::new(&[]);
    let chain = [Authority::new("CA").issue(&Wanted::default())];
    let read = |now| reader.read(&chain, true, Purpose::Client, now).expect("read");
    let first = read(NOW);
    assert!((0..1000).all(|at| Arc::ptr_eq(&first, &read(NOW + at))));
    assert!(!Arc::ptr_eq(&first, &read(NOW + 3601)), "an hour later it is read again");
}

#[test]
fn what_is_none_is_none() {
    let reader = Reader::new(&[]);
    let der = Authority::new("CA").issue(&Wanted::default());
    let read = |chain: &[Box<[u8]>]| reader.read(chain, true, Purpose::Client, NOW);
    assert_eq!(read(&[]), None);
    assert_eq!(read(&[Box::from(*b"")]), None);
    assert_eq!(read(&[vec![0x30; 1 << 20].into()]), None, "too large to be looked at");
    assert_eq!(read(&[der.iter().copied().chain([0]).collect()]), None, "bytes follow it");
    assert!(read(std::slice::from_ref(&der)).is_some());
    assert!(read(&vec![der; 100]).is_some(), "issuers past the limit are not looked at");
}

proptest! {
    #![proptest_config(Config { cases: 64, failure_persistence: None, rng_seed: RngSeed::Fixed(20_261_122), ..Config::default() })]

    #[test]
    fn no_bytes_make_it_panic(changes in proptest::collection::vec((0_usize..2000, any::<u8>()), 0..8), cut in 0_usize..2000) {
        let root = Authority::new("Root");
        let reader = reader(&[&root]);
        let mut der = root.issue(&Wanted { uris: &[SVID], ..Wanted::default() }).into_vec();
        for (at, byte) in changes {
            let length = der.len();
            der[at % length] = byte;
        }
        let whole: Box<[u8]> = der.clone().into();
        der.truncate(cut);
        let cut: Box<[u8]> = der.into();
        for chain in [vec![whole.clone()], vec![whole.clone(), cut.clone()], vec![cut, whole]] {
            let _ = reader.read(&chain, true, Purpose::Client, NOW);
        }
    }
}

#[test]
fn a_bundle_that_is_none_says_why_and_where() {
    let (one, two) = (Authority::new("One"), Authority::new("Two"));
    let good = bundle(&format!("# issuers\n{}\n{}", one.pem(), two.pem())).expect("a bundle");
    assert_eq!((good.len(), good.is_empty()), (2, false));
    let broken = two.pem().replace("MII", "M!!");
    let begins = one.pem().lines().count() + 1;
    for (text, expected) in [
        ("", "`/ca.pem` holds no certificate; name a PEM file with `-----BEGIN CERTIFICATE-----` in it".to_owned()),
        ("secret text", "`/ca.pem` holds no certificate; ".to_owned()),
        (&format!("{}{broken}", one.pem()), format!("`/ca.pem` line {begins}: is not PEM (a section is not base64); ")),
        (
            &format!("{}-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", one.pem()),
            format!("`/ca.pem` line {begins}: certificate 2 cannot be trusted as an issuer ("),
        ),
        (
            "-----BEGIN CERTIFICATE-----\nAAAA\n",
            "`/ca.pem` line 1: is not PEM (a section has no END line); ".to_owned(),
        ),
    ] {
        let problem = bundle(text).expect_err(text);
        assert!(problem.starts_with(&expected) && problem.contains("; "), "expected {expected}\nactual   {problem}");
    }
    let problem = Bundle::read(PathBuf::from("/nowhere/ca.pem")).expect_err("not there");
    assert_eq!(
        problem,
        "`/nowhere/ca.pem` cannot be read (no such file or directory); name a PEM file the auditor's user can read"
    );
}
