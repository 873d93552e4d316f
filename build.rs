//! A new migration alone must lead to a new build: the compiler sees only files that it has read before.

fn main() {
    println!("cargo::rerun-if-changed=migrations");
}
