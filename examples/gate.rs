//! Judges pages. Reads from standard input, for each page, its width and height (u32, little endian), the gray page and the gray
//! output; prints one JSON object a line. With `--pieces` it tells of the pieces of ink that are gone, too. Used by
//! `models/training/gate.py` and `pieces.py`.
#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "a measuring tool")]

use std::io::{Read, stdin};

use inkpool::pipeline::gate::{Cell, Mask, Paper, Plane, compare, gone, judge, pictures};

fn main() {
    let with_pieces = std::env::args().any(|argument| argument == "--pieces");
    let mut input = stdin().lock();
    let mut head = [0u8; 8];
    while input.read_exact(&mut head).is_ok() {
        let [width, height] = [0, 4].map(|at| u32::from_le_bytes(head[at..at + 4].try_into().unwrap()) as usize);
        let (mut page, mut output) = (vec![0; width * height], vec![0; width * height]);
        input.read_exact(&mut page).unwrap();
        input.read_exact(&mut output).unwrap();
        let plane = Plane { width, pixels: &page };
        let began = std::time::Instant::now();
        let paper = Paper::of(&plane);
        let found = pictures(&paper);
        let paper_ns = began.elapsed().as_nanos() as f64 / (width * height) as f64;
        let write = |y: usize, row: &mut [u8]| row.copy_from_slice(&output[y * width..(y + 1) * width]);
        let (figures, blocks) = compare(&plane, &paper, &Mask::default(), write);
        let ns = began.elapsed().as_nanos() as f64 / (width * height) as f64;
        let cells = found.cells.iter().filter(|cell| **cell == Cell::Picture).count();
        let pieces = if with_pieces { gone(&plane, &paper, write) } else { Vec::new() };
        let judgement = judge(figures, &blocks, &plane, 1);
        let told = serde_json::json!({
            "verdict": judgement.verdict,
            "harms": judgement.harms,
            "figures": figures,
            "pieces": pieces,
            "picture_cells": cells,
            "ns_per_px": ns,
            "paper_ns_per_px": paper_ns,
        });
        println!("{told}");
    }
}
