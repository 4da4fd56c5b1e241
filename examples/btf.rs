use vdump::layout::types::*;
fn main() {
    let f = std::env::args().nth(1).unwrap();
    let t = std::time::Instant::now();
    let v = Vmlinux::open(f.as_ref()).unwrap();
    eprintln!("open {:?} id {:x?}", t.elapsed(), v.build_id());
    let ty = v.dwarf(&Wanted::KERNEL, 2).unwrap();
    eprintln!("{:?}", t.elapsed());
    let i = describe(&ty);
    eprintln!("{:?} amb {:?}", t.elapsed(), ty.ambiguous().collect::<Vec<_>>());
    let s = v.symbols(&["_stext", "mem_section"]).unwrap();
    eprintln!("{:?} {s:x?}", t.elapsed());
    for (k, v) in i.lines() {
        println!("{k} {v}");
    }
}
