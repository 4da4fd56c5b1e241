//! Sets and maps of ranges: addresses, page frames, file offsets.
//!
//! One list of stretches in order, none over another, is all of it; what a stretch bears (a file offset, a fill, a reason) is
//! its own business, see [`Stretch`]. Lists take as much memory as their stretches, and every operation one pass and one
//! sort.

use std::ops::Range;

/// Numbers from a start up to, not including, an end; perhaps with something that holds for each of them.
pub trait Stretch: Clone {
    /// The first number.
    fn start(&self) -> u64;

    /// The one behind the last.
    fn end(&self) -> u64;

    /// The part from `start` up to `end`, which lies in it.
    #[must_use]
    fn part(&self, start: u64, end: u64) -> Self;

    /// Whether `next`, which begins where this ends, says the same of its numbers, so that the two may become one.
    fn is_continued_by(&self, _next: &Self) -> bool {
        true
    }
}

impl Stretch for Range<u64> {
    fn start(&self) -> u64 {
        self.start
    }

    fn end(&self) -> u64 {
        self.end
    }

    fn part(&self, start: u64, end: u64) -> Self {
        start..end
    }
}

/// Stretches in order, of which none is empty or shares a number with another. Neighbours that continue each other are one.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Ranges<S>(Vec<S>);

impl<S> Default for Ranges<S> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<S: Stretch> Ranges<S> {
    /// Of stretches in any order. A number that several have belongs to the one that starts first, or is named first.
    #[must_use]
    pub fn new(mut stretches: Vec<S>) -> Self {
        sort(&mut stretches);
        let mut left: Vec<S> = Vec::with_capacity(stretches.len());
        for stretch in stretches {
            let start = left.last().map_or(0, S::end).max(stretch.start());
            if start < stretch.end() {
                let end = stretch.end();
                join(&mut left, stretch.part(start, end));
            }
        }
        Self(left)
    }

    /// Of stretches that are in order, apart and not to be joined.
    #[must_use]
    pub fn from_sorted(stretches: Vec<S>) -> Self {
        Self(stretches)
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Bytes that are held.
    #[must_use]
    pub fn held(&self) -> usize {
        self.0.capacity() * size_of::<S>()
    }

    /// The stretches in order.
    #[must_use]
    pub fn as_slice(&self) -> &[S] {
        &self.0
    }

    /// The stretches in order.
    #[must_use]
    pub fn into_vec(self) -> Vec<S> {
        self.0
    }

    /// How many numbers there are.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.iter().fold(0, |sum, stretch| sum.saturating_add(stretch.end() - stretch.start()))
    }

    /// The stretches that begin before `end` and end behind `start`, whole, in order.
    pub fn overlapping(&self, start: u64, end: u64) -> impl Iterator<Item = &S> {
        let first = self.0.partition_point(|own| own.end() <= start);
        self.0[first..].iter().take_while(move |own| own.start() < end)
    }

    /// The numbers from `start` up to `end` that they have, in order.
    pub fn within(&self, start: u64, end: u64) -> impl Iterator<Item = S> + '_ {
        let cut = move |own: &S| (own.start().max(start), own.end().min(end));
        let some = self.overlapping(start, end).filter(move |own| cut(own).0 < cut(own).1);
        some.map(move |own| own.part(cut(own).0, cut(own).1))
    }

    /// What is left without the numbers of `other`.
    #[must_use]
    pub fn without<T: Stretch>(&self, other: &Ranges<T>) -> Self {
        Self(without(&self.0, other))
    }

    /// Adds those parts of `stretches` whose numbers no stretch has yet; among them the first wins, as in [`Ranges::new`].
    pub fn add_where_free(&mut self, stretches: Vec<S>) {
        let fresh = Self::new(stretches).without(self);
        if self.is_empty() {
            *self = fresh;
            return;
        }
        let mut all = std::mem::take(&mut self.0);
        all.extend(fresh.0);
        sort(&mut all);
        let mut joined = Vec::with_capacity(all.len());
        all.into_iter().for_each(|stretch| join(&mut joined, stretch));
        self.0 = joined;
    }
}

/// What of `from`, in its order, has none of the numbers of `holes`. What was apart in `from` stays apart.
#[must_use]
pub fn without<S: Stretch, T: Stretch>(from: &[S], holes: &Ranges<T>) -> Vec<S> {
    let mut left = Vec::with_capacity(from.len());
    for stretch in from {
        let mut at = stretch.start();
        for hole in holes.overlapping(stretch.start(), stretch.end()) {
            if at < hole.start() {
                left.push(stretch.part(at, hole.start()));
            }
            at = hole.end();
        }
        if at < stretch.end() {
            left.push(stretch.part(at, stretch.end()));
        }
    }
    left
}

/// By their starts; of two with one start the first stays first.
fn sort<S: Stretch>(stretches: &mut [S]) {
    // A list in order, which is the rule, needs no room to be sorted in.
    if !stretches.is_sorted_by_key(S::start) {
        stretches.sort_by_key(S::start);
    }
}

/// Puts a stretch behind the last one, or makes them one.
fn join<S: Stretch>(list: &mut Vec<S>, next: S) {
    match list.last_mut() {
        Some(last) if last.end() == next.start() && last.is_continued_by(&next) => {
            *last = last.part(last.start(), next.end());
        }
        _ => list.push(next),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The numbers that the model knows.
    const ALL: u64 = 6;

    /// A range that says whose it is.
    #[derive(Clone, PartialEq, Eq, Debug)]
    struct Marked {
        start: u64,
        end: u64,
        who: usize,
    }

    impl Stretch for Marked {
        fn start(&self) -> u64 {
            self.start
        }

        fn end(&self) -> u64 {
            self.end
        }

        fn part(&self, start: u64, end: u64) -> Self {
            Self { start, end, ..*self }
        }

        fn is_continued_by(&self, next: &Self) -> bool {
            self.who == next.who
        }
    }

    /// Every range over the model's numbers, the empty ones too, and some that are the wrong way round.
    fn every() -> Vec<(u64, u64)> {
        let mut all: Vec<_> = (0..=ALL).flat_map(|start| (start..=ALL).map(move |end| (start, end))).collect();
        all.push((4, 2));
        all
    }

    fn marked(pairs: &[(u64, u64)], first: usize) -> Vec<Marked> {
        (first..).zip(pairs).map(|(who, (start, end))| Marked { start: *start, end: *end, who }).collect()
    }

    /// Who has each number: of those that have it the one that starts first, else the first.
    fn model(stretches: &[Marked]) -> Vec<Option<usize>> {
        let has = |number| stretches.iter().filter(move |one| (one.start..one.end).contains(&number));
        (0..ALL).map(|number| has(number).min_by_key(|one| one.start).map(|one| one.who)).collect()
    }

    fn flat(list: &Ranges<Marked>) -> Vec<Option<usize>> {
        let mut flat = vec![None; ALL as usize];
        for one in list.as_slice() {
            (one.start..one.end).for_each(|number| flat[number as usize] = Some(one.who));
        }
        flat
    }

    #[track_caller]
    fn is_sound<S: Stretch>(list: &[S]) {
        assert!(list.iter().all(|one| one.start() < one.end()));
        for pair in list.windows(2) {
            assert!(pair[0].end() <= pair[1].start());
            assert!(pair[0].end() < pair[1].start() || !pair[0].is_continued_by(&pair[1]), "not joined");
        }
    }

    #[test]
    fn a_list_is_what_the_model_says() {
        let every = every();
        for a in &every {
            for b in &every {
                for c in &every {
                    let stretches = marked(&[*a, *b, *c], 0);
                    let list = Ranges::new(stretches.clone());
                    is_sound(list.as_slice());
                    assert_eq!(flat(&list), model(&stretches), "{a:?} {b:?} {c:?}");
                    let plain = Ranges::new(stretches.iter().map(|one| one.start..one.end).collect());
                    is_sound(plain.as_slice());
                    let covered = model(&stretches).iter().flatten().count() as u64;
                    assert_eq!((plain.total(), list.total()), (covered, covered));
                }
            }
        }
    }

    #[test]
    fn taking_out_and_adding_are_what_the_model_says() {
        let every = every();
        for a in &every {
            for b in &every {
                let (list, has) = (Ranges::new(marked(&[*a, *b], 0)), model(&marked(&[*a, *b], 0)));
                for c in &every {
                    for d in every.iter().step_by(3) {
                        let other = marked(&[*c, *d], 2);
                        let theirs = model(&other);
                        let left = list.without(&Ranges::new(other.clone()));
                        is_sound(left.as_slice());
                        let expected: Vec<_> =
                            has.iter().zip(&theirs).map(|(own, other)| own.filter(|_| other.is_none())).collect();
                        assert_eq!(flat(&left), expected, "{a:?} {b:?} without {c:?} {d:?}");
                        let mut more = list.clone();
                        more.add_where_free(other);
                        is_sound(more.as_slice());
                        let expected: Vec<_> = has.iter().zip(&theirs).map(|(own, other)| own.or(*other)).collect();
                        assert_eq!(flat(&more), expected, "{a:?} {b:?} and {c:?} {d:?}");
                    }
                    let (start, end) = *c;
                    let cut: Vec<_> = list.within(start, end).collect();
                    let expected: Vec<_> =
                        has.iter().zip(0..).map(|(own, at)| own.filter(|_| (start..end).contains(&at))).collect();
                    assert_eq!(flat(&Ranges(cut)), expected, "{a:?} {b:?} within {c:?}");
                    let touched = list.as_slice().iter().filter(|one| one.start < end && start < one.end).count();
                    assert_eq!(list.overlapping(start, end).count(), touched);
                }
            }
        }
    }

    #[test]
    fn the_ends_of_the_number_line() {
        let whole = Ranges::new(vec![0..u64::MAX, 5..7]);
        assert_eq!((whole.total(), whole.as_slice().len()), (u64::MAX, 1));
        assert!(whole.without(&whole).is_empty());
        let left = whole.without(&Ranges::new(vec![0..5, 5..u64::MAX - 1]));
        assert_eq!(left.as_slice().first(), Some(&(u64::MAX - 1..u64::MAX)));
    }

    #[test]
    fn what_is_apart_stays_apart_where_nothing_is_joined() {
        let touching = [0..10, 10..20, 3..4];
        assert_eq!(without(&touching, &Ranges::new(vec![2..3, 12..13])), [0..2, 3..10, 10..12, 13..20, 3..4]);
    }
}
