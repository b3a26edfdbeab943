//! Tiny files of published formats, made byte by byte. Test files include it with `#[path]`.
#![allow(dead_code)]

use std::io::{Cursor, Write};
use std::path::Path;

pub fn text(bytes: &[u8], code: u8, into: &mut Vec<u8>) {
    into.push(code);
    if code == b'U' {
        into.push(bytes.len() as u8);
    } else {
        into.extend((bytes.len() as u32).to_le_bytes());
    }
    into.extend(bytes);
}

pub fn int(value: usize, into: &mut Vec<u8>) {
    into.push(b'J');
    into.extend((value as i32).to_le_bytes());
}

/// A NumPy array as Python 2 pickled it.
pub fn array(code: &[u8], shape: &[usize], bytes: &[u8], into: &mut Vec<u8>) {
    into.extend(b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\0\x85U\x01b\x87R");
    into.push(b'(');
    into.extend(b"K\x01");
    into.push(b'(');
    shape.iter().for_each(|&n| int(n, into));
    into.extend(b"tcnumpy\ndtype\n");
    text(code, b'U', into);
    into.extend(b"K\0K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0tb\x89");
    text(bytes, b'T', into);
    into.extend(b"tb");
}

pub fn ints(values: &[i32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

pub fn floats(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

pub fn csr(shape: (usize, usize), indptr: &[i32], indices: &[i32], data: &[f32]) -> Vec<u8> {
    let mut out = b"\x80\x02cscipy.sparse.csr\ncsr_matrix\n)\x81}(".to_vec();
    text(b"_shape", b'U', &mut out);
    int(shape.0, &mut out);
    int(shape.1, &mut out);
    out.push(0x86);
    for (name, code, length, bytes) in [
        (&b"indptr"[..], b"i4", indptr.len(), ints(indptr)),
        (b"indices", b"i4", indices.len(), ints(indices)),
        (b"data", b"f4", data.len(), floats(data)),
    ] {
        text(name, b'U', &mut out);
        array(code, &[length], &bytes, &mut out);
    }
    out.extend(b"ub.");
    out
}

pub fn one_hot(labels: &[usize]) -> Vec<u8> {
    let values: Vec<i32> =
        labels.iter().flat_map(|&label| [i32::from(label == 0), i32::from(label == 1)]).collect();
    let mut out = b"\x80\x02".to_vec();
    array(b"i4", &[labels.len(), 2], &ints(&values), &mut out);
    out.push(b'.');
    out
}

pub fn graph(lists: &[&[usize]]) -> Vec<u8> {
    let mut out = b"\x80\x02ccollections\ndefaultdict\nc__builtin__\nlist\n\x85R(".to_vec();
    for (node, list) in lists.iter().enumerate() {
        int(node, &mut out);
        out.extend(b"](");
        list.iter().for_each(|&to| int(to, &mut out));
        out.push(b'e');
    }
    out.extend(b"u.");
    out
}

/// Eight nodes: two train, two val, three test of which node 6 is missing from `test.index`.
pub fn tiny_planetoid() -> Vec<(&'static str, Vec<u8>)> {
    let allx = csr((4, 3), &[0, 2, 3, 4, 5], &[1, 0, 1, 2, 0], &[1.0, 2.0, 1.0, 1.0, 0.0]);
    vec![
        ("x", csr((2, 3), &[0, 2, 3], &[1, 0, 1], &[1.0, 2.0, 1.0])),
        ("y", one_hot(&[0, 1])),
        ("tx", csr((3, 3), &[0, 1, 2, 3], &[0, 1, 2], &[5.0, 6.0, 7.0])),
        ("ty", one_hot(&[1, 0, 1])),
        ("allx", allx),
        ("ally", one_hot(&[0, 1, 1, 0])),
        ("graph", graph(&[&[1, 1, 0], &[0, 2], &[1, 7], &[], &[5], &[], &[], &[2]])),
        ("test.index", b"7\n4\n5\n".to_vec()),
    ]
}

pub fn write_planetoid(folder: &Path, files: &[(&'static str, Vec<u8>)]) {
    for (part, bytes) in files {
        std::fs::write(folder.join(format!("ind.tiny.{part}")), bytes).unwrap();
    }
}

pub fn npy(descr: &str, shape: &str, bytes: &[u8]) -> Vec<u8> {
    let header = format!("{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}\n");
    let mut out = b"\x93NUMPY\x01\0".to_vec();
    out.extend((header.len() as u16).to_le_bytes());
    out.extend(header.as_bytes());
    out.extend(bytes);
    out
}

pub fn archive(members: &[(&str, Vec<u8>)], deflate: bool) -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let method = if deflate { zip::CompressionMethod::Deflated } else { zip::CompressionMethod::Stored };
    let options = zip::write::SimpleFileOptions::default().compression_method(method);
    for (name, bytes) in members {
        writer.start_file(format!("{name}.npy"), options).unwrap();
        writer.write_all(bytes).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

pub fn tiny_members() -> Vec<(&'static str, Vec<u8>)> {
    let n = 12;
    let long = |values: &[i64]| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>();
    let mut indptr: Vec<i32> = (0..=n).collect();
    let ring: Vec<i32> = (0..n).map(|i| (i + 1) % n).collect();
    let members = vec![
        ("adj_data", npy("'<f4'", "(12,)", &floats(&[1.0; 12]))),
        ("adj_indices", npy("'<i4'", "(12,)", &ints(&ring))),
        ("adj_indptr", npy("'<i4'", "(13,)", &ints(&indptr))),
        ("adj_shape", npy("'<i8'", "(2,)", &long(&[12, 12]))),
        ("attr_data", npy("'<f4'", "(12,)", &floats(&[3.0, -1.0, 0.5, 1., 1., 1., 1., 1., 1., 1., 1., 0.0]))),
        ("attr_indices", npy("'<i4'", "(12,)", &ints(&[0; 12]))),
        ("attr_indptr", npy("'<i4'", "(13,)", &ints(&indptr))),
        ("attr_shape", npy("'<i8'", "(2,)", &long(&[12, 2]))),
        ("labels", npy("'<i8'", "(12,)", &long(&[0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1]))),
        ("class_names", npy("'|O'", "(2,)", b"cos\nsystem\n(S'true'\ntR.")),
    ];
    indptr.clear();
    members
}
