//! What places come to: joined, counted by page, put into words. The walk itself is judged on whole machines.

use super::*;

fn place(rule: u16, start: u64, len: u32) -> Place {
    Place { rule, start, len, fill: b'X' }
}

fn line(number: usize, text: &str, what: &str, depth: usize) -> Ruled {
    let line = Line { number, text: text.to_owned(), what: what.to_owned(), depth };
    Ruled { line, places: 0, first: Vec::new(), absent: 0 }
}

#[test]
fn pages_and_bytes_are_counted_once_for_each_rule() {
    let rules = vec![line(1, "erase a", "a", 0), line(2, "erase b", "b", 0)];
    let places = vec![place(0, 0xff0, 0x20), place(0, 0x1800, 8), place(1, 0x1000, 4), place(1, 0x5000, 4)];
    let masked = |place: &Place| Masked { start: place.start, end: place.end(), fill: place.fill };
    let mask = Mask::new(places.iter().map(masked).collect());
    let redaction = Redaction { rules, problems: Vec::new(), mask, places };
    let (each, all) = redaction.tally(12, &|pfn| pfn != 5);
    assert_eq!(each[0], Tally { bytes: 0x28, pages: 2, dropped: 0 });
    assert_eq!(each[1], Tally { bytes: 4, pages: 1, dropped: 4 });
    // Both rules name four of the bytes.
    assert_eq!(all, Tally { bytes: 0x28, pages: 2, dropped: 4 });
}

#[test]
fn the_list_has_makedumpfiles_words() {
    let rules = vec![
        line(1, "erase a.b", "a.b", 0),
        line(2, "for x in y", "", 0),
        line(3, "for z in x.t via next", "", 1),
        line(4, "erase z nullify", "z", 2),
        line(7, "erase c size 1K", "c", 0),
        line(8, "for x in y", "", 0),
        line(9, "erase x", "x", 1),
    ];
    let redaction = Redaction { rules, ..Redaction::default() };
    let tallies = [10, 0, 0, 8, 1000, 0, 7].map(|bytes| Tally { bytes, ..Tally::default() });
    let expected = "erase a.b size 10\nfor x in y\nfor z in x.t via next\nerase z nullify\nendfor\nendfor\nerase c size 1000\n\
                    for x in y\nerase x size 7\nendfor\n";
    assert_eq!(redaction.list(&tallies), expected);
}

#[test]
fn what_overlaps_is_joined_and_rules_stay_apart() {
    let all = vec![
        place(1, 0, 4),
        place(0, 8, 8),
        place(0, 4, 6),
        place(0, 5, 1),
        place(0, 16, 4),
        place(0, 30, u32::MAX),
        place(0, 40, u32::MAX),
    ];
    let long = u64::from(u32::MAX);
    let expected = [place(0, 4, 16), place(0, 30, u32::MAX), place(0, 30 + long, 10), place(1, 0, 4)];
    assert_eq!(joined(all), expected);
}
