//! PDF written by hand: what no program would write as well.
#![allow(dead_code, reason = "each test binary uses another part")]

/// Width and height of A4 in points, such that 300 dpi are whole pixels.
pub const A4: &str = "0 0 595.2 841.92";

/// A file of these objects, the first of which is the catalog.
pub fn file(objects: &[Vec<u8>]) -> Vec<u8> {
    let mut out = b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n".to_vec();
    let mut offsets = Vec::new();
    for (object, number) in objects.iter().zip(1..) {
        offsets.push(out.len());
        out.extend_from_slice(format!("{number} 0 obj\n").as_bytes());
        out.extend_from_slice(object);
        out.extend_from_slice(b"\nendobj\n");
    }
    let start = out.len();
    let size = objects.len() + 1;
    out.extend_from_slice(format!("xref\n0 {size}\n0000000000 65535 f \n").as_bytes());
    for offset in offsets {
        out.extend_from_slice(format!("{offset:010} 00000 n \n").as_bytes());
    }
    out.extend_from_slice(format!("trailer\n<< /Size {size} /Root 1 0 R >>\nstartxref\n{start}\n%%EOF\n").as_bytes());
    out
}

pub fn object(text: &str) -> Vec<u8> {
    text.as_bytes().to_vec()
}

/// A stream with more entries in its dictionary.
pub fn stream(entries: &str, bytes: &[u8]) -> Vec<u8> {
    let head = format!("<< {entries} /Length {} >>\nstream\n", bytes.len());
    [head.as_bytes(), bytes, b"\nendstream"].concat()
}

/// One page of this size and content; `resources` may name further objects, whose numbers begin with 5.
pub fn page(media_box: &str, content: &str, resources: &str, more: Vec<Vec<u8>>) -> Vec<u8> {
    with_catalog("<< /Type /Catalog /Pages 2 0 R >>", media_box, content, resources, more)
}

/// As [`page`], with a catalog of one's own.
pub fn with_catalog(catalog: &str, media_box: &str, content: &str, resources: &str, more: Vec<Vec<u8>>) -> Vec<u8> {
    let mut objects = vec![
        object(catalog),
        object("<< /Type /Pages /Kids [3 0 R] /Count 1 >>"),
        object(&format!(
            "<< /Type /Page /Parent 2 0 R /MediaBox [{media_box}] /Resources << {resources} >> /Contents 4 0 R >>"
        )),
        stream("", content.as_bytes()),
    ];
    objects.extend(more);
    file(&objects)
}

/// So many pages, all of this size, without content.
pub fn pages(count: usize, media_box: &str) -> Vec<u8> {
    let kids: String = (0..count).map(|page| format!("{} 0 R ", page + 3)).collect();
    let mut objects = vec![
        object("<< /Type /Catalog /Pages 2 0 R >>"),
        object(&format!("<< /Type /Pages /Kids [{kids}] /Count {count} >>")),
    ];
    let page = format!("<< /Type /Page /Parent 2 0 R /MediaBox [{media_box}] >>");
    objects.extend((0..count).map(|_| object(&page)));
    file(&objects)
}

/// A page of text in a font that the document does not carry.
pub fn text(media_box: &str) -> Vec<u8> {
    let lines: String =
        (0..30).map(|line| format!("1 0 0 1 72 {} Tm (Inkpool cleans page {line}) Tj ", 750 - line * 22)).collect();
    page(
        media_box,
        &format!("BT /F1 18 Tf {lines} ET"),
        "/Font << /F1 << /Type /Font /Subtype /Type1 /BaseFont /Helvetica >> >>",
        Vec::new(),
    )
}
