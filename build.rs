//! Has the linker keep one of functions that are the same instructions. Generic code of Arrow and DataFusion is compiled for dozens of types
//! of the same layout, and a tenth of the program and more is such copies. It bears on the last link alone: nothing is compiled otherwise.

use std::env::var;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // Where Rust itself links by LLD.
    if var("TARGET").is_ok_and(|target| target == "x86_64-unknown-linux-gnu") {
        println!("cargo::rustc-link-arg-bins=-Wl,--icf=all");
    }
}
