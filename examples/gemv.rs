use pagelm::DType; use pagelm::backend::*; use pagelm::backend::cpu::Cpu; use pagelm::graph::*; use std::future::poll_fn; use std::time::Instant;
fn main(){
  let args: Vec<String>=std::env::args().collect();
  let dt=|s:&str| DType::ALL.iter().copied().find(|d| d.to_string()==s).unwrap();
  let d=dt(&args[1]); let rows:usize=args[2].parse().unwrap(); let cols:usize=args[3].parse().unwrap(); let tokens:usize=args[4].parse().unwrap();
  for level in 1..4u8 { for a in [Activations::Q8] {
   let mut b=Builder::new(); let e=b.weight("e",DType::F32,tokens,cols); let w=b.weight("w",d,rows,cols); let x=b.embed(e,1.0); let y=b.matmul(w,x); let y=b.last_rows(y); let plan=Plan::new(b.finish(y));
   let mut c=Cpu::with_level(1,level).activations(a);
   c.prepare(plan.clone(),Limits{n_ctx:tokens.max(8),max_tokens:tokens,max_outputs:tokens}).unwrap();
   for i in 0..2u32 { let n=plan.graph.weights[i as usize].bytes(); let bytes:Vec<u8>=(0..n).map(|i| ((i*7919)%251) as u8 & 0x3b).collect(); c.write_weight(WeightId(i),0,&bytes).unwrap(); }
   c.finish_weights().unwrap();
   let toks:Vec<u32>=(0..tokens as u32).collect(); let mut out=vec![0.0;rows*tokens];
   let mut best=f64::MAX;
   for _ in 0..8 { let _=Instant::now(); let t=cpu_s(); for _ in 0..(4) { c.submit(&Step{tokens:&toks,pos:0,outputs:tokens}).unwrap(); pollster::block_on(poll_fn(|cx| c.poll_logits(cx,&mut out))).unwrap(); } best=best.min((cpu_s()-t)/4.0); }
   println!("{d} level {level} {a:?}: {:.2} ms, {:.2} GB/s, {:.1} GMAC/s", best*1e3, plan.graph.weights[1].bytes() as f64/best/1e9, (rows*cols*tokens) as f64/best/1e9);
  }}
}
fn cpu_s()->f64{ let s=std::fs::read_to_string("/proc/thread-self/schedstat").unwrap(); s.split(' ').next().unwrap().parse::<f64>().unwrap()*1e-9 }
