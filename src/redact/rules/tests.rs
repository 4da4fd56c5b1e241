//! What the language takes, and where it points when it does not.

use super::*;

fn body(text: &str) -> Vec<Statement> {
    Rules::parse(text).unwrap().body
}

#[track_caller]
fn refused(text: &str, line: usize, column: usize, what: &str) {
    let error = Rules::parse(text).unwrap_err();
    assert_eq!((error.line, error.column), (line, column), "{text:?}: {error}");
    assert!(error.to_string().contains(what), "{text:?}: {error}");
}

#[test]
fn the_manuals_examples_are_understood_but_for_modules() {
    let text = "[vmlinux] # a comment\n\
                erase modules\nerase cred_jar.name\nerase cred_jar.name size 10\n\terase vmlist.addr nullify\n\
                erase mystruct2.addr size mystruct2.addr_size\n\
                for mys1 in mystruct1 via next\n erase mys1.private\n erase mys1.key size mys1.key_size\nendfor\n\n\
                for mys1 in s1_list_head.next within s1:list\nerase mys1.private\nendfor\n\
                for mys1 in myarray\nerase mys1\nendfor\n";
    let found = body(text);
    assert_eq!(found.len(), 8);
    let Statement::Erase(sized) = &found[2] else { panic!("{found:?}") };
    assert_eq!((sized.what.to_string().as_str(), &sized.how), ("cred_jar.name", &How::Bytes(10)));
    let Statement::Erase(nullified) = &found[3] else { panic!("{found:?}") };
    assert_eq!((nullified.text.as_str(), nullified.what.first.column), ("erase vmlist.addr nullify", 8));
    let Statement::For(list) = &found[6] else { panic!("{found:?}") };
    let Over::Within { structure, member } = &list.over else { panic!("{list:?}") };
    assert_eq!((structure.text.as_str(), member[0].text.as_str(), member[0].column), ("s1", "list", 41));
    assert!(matches!(&found[7], Statement::For(For { over: Over::Array, body, .. }) if body.len() == 1));
    refused("[z90crypt]\nerase ap_device_list", 1, 1, "rules for modules are not supported ('z90crypt')");
}

#[test]
fn sizes_have_units() {
    for (text, bytes) in [("1", 1), ("2k", 2048), ("3M", 3 << 20), ("0x10", 16), ("1024M", 1 << 30)] {
        let found = body(&format!("erase a size {text}"));
        assert!(matches!(&found[0], Statement::Erase(Erase { how: How::Bytes(n), .. }) if *n == bytes), "{text}");
    }
    for text in
        ["0", "0K", "1025M", "18446744073709551616", "99999999999999999999M", "1.5K", "1G", "0x", "0xg", "-1", "+1"]
    {
        assert!(Rules::parse(&format!("erase a size {text}")).is_err(), "{text}");
    }
}

#[test]
fn types_are_given_as_in_c() {
    let rules =
        Rules::parse("type a struct cred\ntype b char *\ntype c struct x** [8]\ntype d char [16]\ntype e union u *")
            .unwrap();
    let found: Vec<_> = rules
        .types
        .iter()
        .map(|typed| (typed.base.text.as_str(), typed.is_char, typed.pointers, typed.elements))
        .collect();
    let expected = [
        ("cred", false, 0, None),
        ("char", true, 1, None),
        ("x", false, 2, Some(8)),
        ("char", true, 0, Some(16)),
        ("u", false, 1, None),
    ];
    assert_eq!(found, expected);
    for text in [
        "type a",
        "type a int",
        "type a struct",
        "type a struct *",
        "type a char [0]",
        "type a char [x]",
        "type a char ***",
        "type a char [2] *",
    ] {
        assert!(Rules::parse(text).is_err(), "{text}");
    }
}

#[test]
fn mistakes_are_pointed_at() {
    refused("erase", 1, 6, "expected a symbol");
    refused("\n\n  erase a.b.", 3, 9, "expected");
    refused("erase a..b", 1, 7, "expected");
    refused("erase a size", 1, 13, "expected a number of bytes");
    refused("erase \u{e4}\u{e4} size 1", 1, 7, "expected a symbol");
    refused("erase a size 1 nullify", 1, 16, "expected the end of the line");
    refused("for x of y", 1, 7, "expected 'in', found 'of'");
    refused("for x in y within z", 1, 19, "STRUCTURE:MEMBER");
    refused("for x in y via", 1, 15, "expected the member");
    refused("for x in y\nfor z in x.y\nendfor", 1, 5, "no 'endfor'");
    refused("erase a\nendfor", 2, 1, "no loop is open");
    refused("for x in y\ntype x char\nendfor", 2, 1, "outside of loops");
    refused(&format!("erase a{}", ".b".repeat(40)), 1, 73, "more than 32 members");
    refused(&"for x in y\n".repeat(9), 9, 1, "loops are inside each other");
    refused(&"erase a\n".repeat(4097), 4097, 1, "more than 4096 rules");
}

/// Whatever is in the file, parsing ends, with rules or with a place in the file.
#[test]
fn no_text_is_too_strange() {
    const WORDS: [&str; 22] = [
        "erase",
        "for",
        "in",
        "via",
        "within",
        "endfor",
        "size",
        "nullify",
        "type",
        "struct",
        "char",
        "[vmlinux]",
        "[",
        "a.b",
        "a:b",
        "*",
        "\u{fc}",
        "\t",
        "#",
        "12K",
        "\n",
        "\r\n",
    ];
    let mut rng = fastrand::Rng::with_seed(7);
    let mut understood = 0;
    for _ in 0..20_000 {
        let mut text = String::new();
        for _ in 0..rng.usize(1..=16) {
            text += WORDS[rng.usize(..WORDS.len())];
            text += if rng.bool() { " " } else { "" };
        }
        match Rules::parse(&text) {
            Ok(_) => understood += 1,
            Err(error) => {
                let line = text.lines().nth(error.line - 1).unwrap();
                assert!(error.column >= 1 && error.column <= line.chars().count() + 1, "{text:?}: {error}");
            }
        }
    }
    assert!(understood > 100, "{understood}");
}
