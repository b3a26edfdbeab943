//! Lists of one length side by side, which threads walk through without a list of their own.

/// Lists of one length: an entry of each, block by block.
pub trait Lists: Sized + Send {
    /// What a block has in all lists.
    type Entry;
    /// Blocks.
    fn count(&self) -> usize;
    /// The blocks before `at`, and those from there on.
    fn split(self, at: usize) -> (Self, Self);
    /// The first block, and the others; `None` where there is none.
    fn first(self) -> Option<(Self::Entry, Self)>;
}

impl<'a, A: Send> Lists for &'a mut [A] {
    type Entry = &'a mut A;

    fn count(&self) -> usize {
        self.len()
    }
    fn split(self, at: usize) -> (Self, Self) {
        self.split_at_mut(at)
    }
    fn first(self) -> Option<(Self::Entry, Self)> {
        self.split_first_mut()
    }
}

macro_rules! side_by_side {
    ($($list:ident: $rest:ident),+) => {
        #[allow(non_snake_case)]
        impl<$($list: Lists),+> Lists for ($($list,)+) {
            type Entry = ($($list::Entry,)+);

            fn count(&self) -> usize {
                let ($($list,)+) = self;
                usize::MAX$(.min($list.count()))+
            }
            fn split(self, at: usize) -> (Self, Self) {
                let ($($list,)+) = self;
                $(let ($list, $rest) = $list.split(at);)+
                (($($list,)+), ($($rest,)+))
            }
            fn first(self) -> Option<(Self::Entry, Self)> {
                let ($($list,)+) = self;
                $(let ($list, $rest) = $list.first()?;)+
                Some((($($list,)+), ($($rest,)+)))
            }
        }
    };
}

side_by_side!(A: MoreA, B: MoreB);
side_by_side!(A: MoreA, B: MoreB, C: MoreC);
side_by_side!(A: MoreA, B: MoreB, C: MoreC, D: MoreD);
