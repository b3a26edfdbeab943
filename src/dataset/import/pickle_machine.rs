//! The stack machine of Python pickles, without the instructions that execute anything.
//! Instructions: Python's `pickletools` module.

use std::borrow::Cow;
use std::collections::HashMap;

use super::pickle::{Item, Name, Object, known};

/// Most entries of the stack, of the memo and of the arena: some 4 GiB at the very worst.
const MAX_ENTRIES: usize = 1 << 26;
/// Bytes that are decoded instead of borrowed may be this many times the input.
const MAX_DECODED: usize = 4;

/// What was expected and what was found.
pub(super) type Step<T> = Result<T, (&'static str, String)>;

/// A pickle that is being read.
pub(super) struct Machine<'a> {
    input: &'a [u8],
    position: usize,
    stack: Vec<Item>,
    /// Lengths of the stack at the open marks.
    marks: Vec<usize>,
    memo: HashMap<u32, Item>,
    objects: Vec<Object<'a>>,
    decoded: usize,
}

impl<'a> Machine<'a> {
    pub(super) fn new(input: &'a [u8]) -> Self {
        Machine {
            input,
            position: 0,
            stack: Vec::new(),
            marks: Vec::new(),
            memo: HashMap::new(),
            objects: Vec::new(),
            decoded: 0,
        }
    }

    /// Offset of the next instruction.
    pub(super) fn position(&self) -> usize {
        self.position
    }

    /// The objects that were made.
    pub(super) fn into_objects(self) -> Vec<Object<'a>> {
        self.objects
    }

    /// Runs one instruction; the root value when it was the last one.
    pub(super) fn step(&mut self) -> Step<Option<Item>> {
        let [code] = self.array()?;
        match code {
            0x80 => {
                let [version] = self.array()?;
                if version > 4 {
                    return Err(("a pickle of protocol 0 to 4", format!("protocol {version}")));
                }
            }
            0x95 => {
                self.array::<8>()?;
            }
            b'.' => return self.pop().map(Some),
            b'(' => {
                limit(self.marks.len())?;
                self.marks.push(self.stack.len());
            }
            b'0' => {
                self.pop()?;
            }
            b'1' => {
                self.since_mark()?;
            }
            b'2' => {
                let top = self.top()?;
                self.push(top)?;
            }
            b'N' => self.push(Item::None)?,
            0x88 => self.push(Item::Bool(true))?,
            0x89 => self.push(Item::Bool(false))?,
            b'K' => {
                let [value] = self.array()?;
                self.push(Item::Int(i64::from(value)))?;
            }
            b'M' => {
                let value = u16::from_le_bytes(self.array()?);
                self.push(Item::Int(i64::from(value)))?;
            }
            b'J' => {
                let value = i32::from_le_bytes(self.array()?);
                self.push(Item::Int(i64::from(value)))?;
            }
            b'I' => {
                let item = match self.line()? {
                    b"00" => Item::Bool(false),
                    b"01" => Item::Bool(true),
                    digits => Item::Int(decimal(digits)?),
                };
                self.push(item)?;
            }
            b'L' => {
                let digits = self.line()?;
                let digits = digits.strip_suffix(b"L").unwrap_or(digits);
                self.push(Item::Int(decimal(digits)?))?;
            }
            0x8a => {
                let [length] = self.array()?;
                let bytes = self.take(usize::from(length))?;
                self.push(Item::Int(long(bytes)?))?;
            }
            b'F' => {
                let text = std::str::from_utf8(self.line()?).ok().and_then(|text| text.parse().ok());
                let value = text.ok_or(("a floating point number", "other text".to_string()))?;
                self.push(Item::Float(value))?;
            }
            b'G' => {
                let value = f64::from_be_bytes(self.array()?);
                self.push(Item::Float(value))?;
            }
            b'U' | b'C' | 0x8c => {
                let [length] = self.array()?;
                self.bytes(usize::from(length))?;
            }
            b'T' | b'X' | b'B' => {
                let length = u32::from_le_bytes(self.array()?);
                self.bytes(length as usize)?;
            }
            0x8d | 0x8e => {
                let length = u64::from_le_bytes(self.array()?);
                self.bytes(usize::try_from(length).unwrap_or(usize::MAX))?;
            }
            b'S' => {
                let line = self.line()?;
                let quoted = match line {
                    [b'\'', inner @ .., b'\''] | [b'"', inner @ .., b'"'] => inner,
                    _ => return Err(("a quoted string", "other text".into())),
                };
                let bytes = unescape(quoted)?;
                self.decoded_bytes(bytes)?;
            }
            b'V' => {
                let line = self.line()?;
                if line.contains(&b'\\') {
                    return Err(("plain text", "text with escapes".into()));
                }
                self.make(Object::Bytes(Cow::Borrowed(line)))?;
            }
            b')' => self.make(Object::Tuple(Vec::new()))?,
            0x85..=0x87 => {
                let count = usize::from(code - 0x84);
                let start = self.stack.len().checked_sub(count).ok_or_else(empty_stack)?;
                self.above_mark(start)?;
                let items = self.stack.split_off(start);
                self.make(Object::Tuple(items))?;
            }
            b't' => {
                let items = self.since_mark()?;
                self.make(Object::Tuple(items))?;
            }
            b']' => self.make(Object::List(Vec::new()))?,
            b'l' => {
                let items = self.since_mark()?;
                self.make(Object::List(items))?;
            }
            b'a' => {
                let item = self.pop()?;
                self.list()?.push(item);
            }
            b'e' => {
                let items = self.since_mark()?;
                self.list()?.extend(items);
            }
            b'}' => self.make(Object::Dict(Vec::new()))?,
            b'd' => {
                let pairs = pairs(self.since_mark()?)?;
                self.make(Object::Dict(pairs))?;
            }
            b's' => {
                let value = self.pop()?;
                let key = self.pop()?;
                self.dict()?.push((key, value));
            }
            b'u' => {
                let pairs = pairs(self.since_mark()?)?;
                self.dict()?.extend(pairs);
            }
            b'p' | b'q' | b'r' | 0x94 => {
                let key = match code {
                    b'p' => memo_key(self.line()?)?,
                    b'q' => self.array::<1>().map(|[key]| u32::from(key))?,
                    b'r' => u32::from_le_bytes(self.array()?),
                    _ => self.memo.len() as u32,
                };
                limit(self.memo.len())?;
                let top = self.top()?;
                self.memo.insert(key, top);
            }
            b'g' | b'h' | b'j' => {
                let key = match code {
                    b'g' => memo_key(self.line()?)?,
                    b'h' => self.array::<1>().map(|[key]| u32::from(key))?,
                    _ => u32::from_le_bytes(self.array()?),
                };
                let item = self.memo.get(&key).copied();
                self.push(item.ok_or_else(|| ("a remembered value", format!("none of number {key}")))?)?;
            }
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                self.name(module, name)?;
            }
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                match (self.text(module), self.text(name)) {
                    (Some(module), Some(name)) => {
                        let found = known(&module, &name);
                        self.push_name(found, &module, &name)?;
                    }
                    _ => return Err(("the name of a class", "something else".into())),
                }
            }
            b'R' => {
                let (arguments, callable) = (self.pop()?, self.pop()?);
                let object = self.call(callable, arguments)?;
                self.make(object)?;
            }
            0x81 => {
                let (_arguments, class) = (self.pop()?, self.pop()?);
                match self.object(class) {
                    Some(Object::Name(Name::CsrMatrix)) => self.make(Object::CsrMatrix(None))?,
                    _ => return Err(("a csr_matrix", "another class".into())),
                }
            }
            b'b' => {
                let state = self.pop()?;
                let target = self.top()?;
                match self.object_mut(target) {
                    Some(Object::Dtype(_, slot) | Object::Array(slot) | Object::CsrMatrix(slot)) => {
                        *slot = Some(state);
                    }
                    _ => return Err(("an array or a matrix to set up", "something else".into())),
                }
            }
            other => return Err(("an instruction that data needs", format!("instruction 0x{other:02x}"))),
        }
        Ok(None)
    }

    /// What a call would return, for the few callables there are.
    fn call(&mut self, callable: Item, arguments: Item) -> Step<Object<'a>> {
        let Some(&Object::Name(name)) = self.object(callable) else {
            return Err(("a known function", "something else".into()));
        };
        let Some(Object::Tuple(arguments)) = self.object(arguments) else {
            return Err(("the arguments of a call", "something else".into()));
        };
        let (first, second) = (arguments.first().copied(), arguments.get(1).copied());
        let first_name = match first.and_then(|item| self.object(item)) {
            Some(&Object::Name(name)) => Some(name),
            _ => None,
        };
        match (name, first_name) {
            (Name::Reconstruct, Some(Name::NdArray)) => Ok(Object::Array(None)),
            (Name::Dtype, None) => first
                .map(|code| Object::Dtype(code, None))
                .ok_or_else(|| ("the code of a type", "nothing".into())),
            (Name::DefaultDict, Some(Name::List)) => Ok(Object::Dict(Vec::new())),
            (Name::Reconstructor, Some(Name::CsrMatrix)) => Ok(Object::CsrMatrix(None)),
            (Name::Encode, None) => {
                let codec = second.and_then(|item| self.text(item));
                let text = first.and_then(|item| self.text(item));
                match (text, codec.as_deref()) {
                    (Some(text), Some(b"latin1" | b"latin-1")) => {
                        let bytes = latin1(&text)?;
                        self.count_decoded(bytes.len())?;
                        Ok(Object::Bytes(Cow::Owned(bytes)))
                    }
                    _ => Err(("text in latin1", "something else".into())),
                }
            }
            _ => Err(("a call that makes an array, a matrix or a dictionary", format!("{name:?}"))),
        }
    }

    fn name(&mut self, module: &[u8], name: &[u8]) -> Step<()> {
        let found = known(module, name);
        self.push_name(found, module, name)
    }

    fn push_name(&mut self, found: Option<Name>, module: &[u8], name: &[u8]) -> Step<()> {
        let Some(found) = found else {
            let shown = |bytes: &[u8]| String::from_utf8_lossy(bytes.get(..60).unwrap_or(bytes)).into_owned();
            return Err((
                "names of numbers, arrays and dictionaries only (nothing is executed)",
                format!("{:?}", format!("{}.{}", shown(module), shown(name))),
            ));
        };
        self.make(Object::Name(found))
    }

    fn take(&mut self, length: usize) -> Step<&'a [u8]> {
        let end = self.position.checked_add(length);
        let taken = end.and_then(|end| self.input.get(self.position..end));
        let taken = taken.ok_or_else(|| {
            ("more data", format!("the end of the file, {} bytes on", self.input.len() - self.position))
        })?;
        self.position += length;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Step<[u8; N]> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    /// The bytes up to the next line feed.
    fn line(&mut self) -> Step<&'a [u8]> {
        let rest = self.input.get(self.position..).unwrap_or_default();
        let length = rest.iter().position(|&byte| byte == b'\n');
        let length = length.ok_or_else(|| ("a line feed", "the end of the file".to_string()))?;
        let line = self.take(length)?;
        self.take(1)?;
        Ok(line.strip_suffix(b"\r").unwrap_or(line))
    }

    fn bytes(&mut self, length: usize) -> Step<()> {
        let bytes = self.take(length)?;
        self.make(Object::Bytes(Cow::Borrowed(bytes)))
    }

    fn decoded_bytes(&mut self, bytes: Vec<u8>) -> Step<()> {
        self.count_decoded(bytes.len())?;
        self.make(Object::Bytes(Cow::Owned(bytes)))
    }

    /// The same remembered text can be decoded again and again by a few instructions.
    fn count_decoded(&mut self, length: usize) -> Step<()> {
        self.decoded = self.decoded.saturating_add(length);
        if self.decoded > self.input.len().saturating_mul(MAX_DECODED) {
            return Err(("no more text than the file holds", format!("{} bytes", self.decoded)));
        }
        Ok(())
    }

    fn push(&mut self, item: Item) -> Step<()> {
        limit(self.stack.len())?;
        self.stack.push(item);
        Ok(())
    }

    fn make(&mut self, object: Object<'a>) -> Step<()> {
        limit(self.objects.len())?;
        let item = Item::Object(self.objects.len());
        self.objects.push(object);
        self.push(item)
    }

    /// Instructions may not reach below the last mark.
    fn above_mark(&self, position: usize) -> Step<()> {
        if position < self.marks.last().copied().unwrap_or(0) {
            return Err(empty_stack());
        }
        Ok(())
    }

    fn top(&self) -> Step<Item> {
        self.above_mark(self.stack.len().checked_sub(1).ok_or_else(empty_stack)?)?;
        self.stack.last().copied().ok_or_else(empty_stack)
    }

    fn pop(&mut self) -> Step<Item> {
        let top = self.top()?;
        self.stack.pop();
        Ok(top)
    }

    /// Everything above the last mark.
    fn since_mark(&mut self) -> Step<Vec<Item>> {
        let start = self.marks.pop().ok_or_else(|| ("an open mark", "none".to_string()))?;
        Ok(self.stack.split_off(start.min(self.stack.len())))
    }

    fn object(&self, item: Item) -> Option<&Object<'a>> {
        match item {
            Item::Object(number) => self.objects.get(number),
            _ => None,
        }
    }

    fn object_mut(&mut self, item: Item) -> Option<&mut Object<'a>> {
        match item {
            Item::Object(number) => self.objects.get_mut(number),
            _ => None,
        }
    }

    fn text(&self, item: Item) -> Option<Cow<'a, [u8]>> {
        match self.object(item)? {
            Object::Bytes(Cow::Borrowed(bytes)) => Some(Cow::Borrowed(bytes)),
            // Only borrowed text can be a name or be encoded: copying would cost what it saves.
            _ => None,
        }
    }

    fn list(&mut self) -> Step<&mut Vec<Item>> {
        let top = self.top()?;
        match self.object_mut(top) {
            Some(Object::List(list)) => Ok(list),
            _ => Err(("a list to append to", "something else".into())),
        }
    }

    fn dict(&mut self) -> Step<&mut Vec<(Item, Item)>> {
        let top = self.top()?;
        match self.object_mut(top) {
            Some(Object::Dict(dict)) => Ok(dict),
            _ => Err(("a dictionary to fill", "something else".into())),
        }
    }
}

fn empty_stack() -> (&'static str, String) {
    ("a value on the stack", "none".into())
}

fn limit(length: usize) -> Step<()> {
    if length >= MAX_ENTRIES {
        return Err(("at most 2^26 values", "more".into()));
    }
    Ok(())
}

fn pairs(items: Vec<Item>) -> Step<Vec<(Item, Item)>> {
    let (pairs, rest) = items.as_chunks::<2>();
    if !rest.is_empty() {
        return Err(("keys and values", "a key without a value".into()));
    }
    Ok(pairs.iter().map(|&[key, value]| (key, value)).collect())
}

fn decimal(digits: &[u8]) -> Step<i64> {
    let number = std::str::from_utf8(digits).ok().and_then(|digits| digits.trim().parse().ok());
    number.ok_or_else(|| ("a whole number of at most 63 bits", "other text".into()))
}

fn memo_key(digits: &[u8]) -> Step<u32> {
    u32::try_from(decimal(digits)?).map_err(|_| ("a small number", "another one".into()))
}

/// A little-endian number in two's complement.
fn long(bytes: &[u8]) -> Step<i64> {
    if bytes.len() > 8 {
        return Err(("a whole number of at most 63 bits", format!("{} bytes", bytes.len())));
    }
    let negative = bytes.last().is_some_and(|&byte| byte >= 0x80);
    let mut wide = [if negative { 0xff } else { 0 }; 8];
    wide.iter_mut().zip(bytes).for_each(|(to, &from)| *to = from);
    Ok(i64::from_le_bytes(wide))
}

/// Undoes Python's `repr` of a byte string.
fn unescape(quoted: &[u8]) -> Step<Vec<u8>> {
    let wrong = || ("an escape of a Python string", "another one".to_string());
    let mut bytes = Vec::with_capacity(quoted.len());
    let mut rest = quoted.iter().copied();
    let digit = |byte: Option<u8>| byte.and_then(|b| char::from(b).to_digit(16)).ok_or_else(wrong);
    while let Some(byte) = rest.next() {
        if byte != b'\\' {
            bytes.push(byte);
            continue;
        }
        bytes.push(match rest.next().ok_or_else(wrong)? {
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            same @ (b'\\' | b'\'' | b'"') => same,
            b'x' => (digit(rest.next())? * 16 + digit(rest.next())?) as u8,
            _ => return Err(wrong()),
        });
    }
    Ok(bytes)
}

/// UTF-8 text whose characters are bytes.
fn latin1(text: &[u8]) -> Step<Vec<u8>> {
    let wrong = || ("characters below 256", "others".to_string());
    let text = std::str::from_utf8(text).map_err(|_| wrong())?;
    text.chars().map(|c| u8::try_from(u32::from(c)).map_err(|_| wrong())).collect()
}
