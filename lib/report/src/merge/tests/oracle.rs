//! The same answers from the definitions, without any cleverness.

use super::*;

#[derive(Clone, Debug)]
pub(super) struct OracleRun {
    pub(super) state: usize,
    frames: Vec<usize>,
    anchor: Option<u64>,
    entry: bool,
    at: Option<usize>,
    by_order: bool,
}

/// The entries as text, and whether the order of the states is known.
pub(super) fn merge(native: &NativeStack, states: &[&PythonState], loops: &[usize]) -> (String, bool) {
    let count = native.frames.len();
    let mut chains: Vec<Vec<OracleRun>> = states.iter().enumerate().map(|(i, s)| runs(i, s, native)).collect();
    let before = chains.clone();
    for chain in &mut chains {
        let places: Vec<Option<usize>> = chain.iter().map(|run| run.at).collect();
        for (i, run) in chain.iter_mut().enumerate() {
            let agrees = |j: usize, other: usize, own: usize| match j.cmp(&i) {
                std::cmp::Ordering::Less => other < own,
                std::cmp::Ordering::Equal => true,
                std::cmp::Ordering::Greater => other > own,
            };
            let own = run.at;
            run.at = own.filter(|own| {
                places.iter().enumerate().all(|(j, other)| other.is_none_or(|other| agrees(j, other, *own)))
            });
        }
    }
    let ordered = chains.clone();
    for (i, chain) in chains.iter_mut().enumerate() {
        for run in chain {
            let others = ordered.iter().enumerate().filter(|(j, _)| *j != i).flat_map(|(_, chain)| chain);
            if others.clone().any(|other| other.at.is_some() && other.at == run.at) {
                run.at = None;
            }
        }
    }
    if count > 0 && before.iter().filter(|chain| !chain.is_empty()).count() == 1 {
        for chain in &mut chains {
            by_order(chain, count, native.end == StackEnd::COMPLETE, loops);
        }
    }
    lay_out(count, &chains)
}

fn runs(index: usize, state: &PythonState, native: &NativeStack) -> Vec<OracleRun> {
    let mut rest: Vec<usize> = (0..state.frames.len()).collect();
    let mut wanted: Vec<(usize, Option<u64>)> =
        state.runs.iter().map(|run| (run.frames as usize, run.anchor.map(|anchor| anchor.0))).collect();
    if wanted.iter().map(|(frames, _)| *frames).sum::<usize>() < rest.len() {
        wanted.push((rest.len(), None));
    }
    let last = wanted.len();
    let mut runs = Vec::new();
    for (number, (frames, anchor)) in wanted.into_iter().enumerate() {
        let frames: Vec<usize> = rest.drain(..frames.min(rest.len())).collect();
        let entry = number + 1 < last || anchor.is_some() || state.end == FrameChainEnd::COMPLETE;
        let hosts: Vec<usize> = (0..native.frames.len())
            .filter(|i| {
                let frame = &native.frames[*i];
                let end = frame.cfa.or_else(|| native.frames.get(i + 1).map(|caller| caller.sp));
                anchor.is_some_and(|a| end.is_some_and(|end| frame.sp.0 <= a && a < end.0))
            })
            .collect();
        let at = if hosts.len() == 1 { Some(hosts[0]) } else { None };
        runs.push(OracleRun { state: index, frames, anchor, entry, at, by_order: false });
    }
    runs
}

/// Tries every assignment of the runs of a gap to loops in it, and takes the only one.
fn by_order(chain: &mut [OracleRun], count: usize, complete: bool, loops: &[usize]) {
    let fixed = chain.to_vec();
    for start in 0..chain.len() {
        if fixed[start].at.is_some() || (start > 0 && fixed[start - 1].at.is_none()) {
            continue;
        }
        let end = (start..chain.len()).find(|i| fixed[*i].at.is_some()).unwrap_or(chain.len());
        let low = if start == 0 { 0 } else { fixed[start - 1].at.unwrap() + 1 };
        let high = if end < chain.len() {
            fixed[end].at.unwrap()
        } else if complete {
            count
        } else {
            continue;
        };
        if fixed[start..end].iter().any(|run| run.anchor.is_some()) {
            continue;
        }
        let free: Vec<usize> = loops.iter().copied().filter(|frame| (low..high).contains(frame)).collect();
        let choices = subsets(&free, end - start);
        if choices.len() == 1 {
            for (run, frame) in chain[start..end].iter_mut().zip(&choices[0]) {
                (run.at, run.by_order) = (Some(*frame), true);
            }
        }
    }
}

fn subsets(of: &[usize], size: usize) -> Vec<Vec<usize>> {
    (0..1_u32 << of.len())
        .filter(|bits| bits.count_ones() as usize == size)
        .map(|bits| of.iter().enumerate().filter(|(i, _)| bits >> i & 1 == 1).map(|(_, frame)| *frame).collect())
        .collect()
}

fn lay_out(count: usize, chains: &[Vec<OracleRun>]) -> (String, bool) {
    let mut words = Vec::new();
    let nowhere = |chain: &[OracleRun], i: usize| chain[i..].iter().all(|run| run.at.is_none());
    let mut beyond: Vec<Vec<OracleRun>> = chains
        .iter()
        .map(|chain| {
            (0..chain.len()).rev().filter(|i| nowhere(chain, *i)).map(|i| chain[i].clone()).collect::<Vec<_>>()
        })
        .map(|chain| chain.into_iter().filter(|run| !run.frames.is_empty()).collect())
        .filter(|chain: &Vec<_>| !chain.is_empty())
        .collect();
    beyond.reverse();
    let several = beyond.len() > 1;
    let order: Vec<(usize, Vec<usize>)> = beyond.iter().flatten().map(|run| (run.state, run.frames.clone())).collect();
    let mut flat: Vec<OracleRun> = beyond.into_iter().flatten().collect();
    let mut known = true;
    if several {
        let mut sorted = flat.clone();
        sorted.sort_by_key(|run| std::cmp::Reverse(run.anchor.unwrap_or(0)));
        let keeps = |state: usize| {
            let of_state = |runs: &[OracleRun]| -> Vec<Vec<usize>> {
                runs.iter().filter(|run| run.state == state).map(|run| run.frames.clone()).collect()
            };
            of_state(&sorted) == of_state(&flat)
        };
        let mut anchors: Vec<u64> = flat.iter().filter_map(|run| run.anchor).collect();
        anchors.sort_unstable();
        anchors.dedup();
        known = anchors.len() == flat.len() && order.iter().all(|(state, _)| keeps(*state));
        if known {
            flat = sorted;
        }
    }
    for run in &flat {
        words.extend(write(run, count));
    }
    for frame in (0..count).rev() {
        let host = chains.iter().flatten().find(|run| run.at == Some(frame));
        words.push(format!("N{frame}{}", if host.is_some() { "*" } else { "" }));
        let Some(host) = host else { continue };
        words.extend(write(host, count));
        let chain = &chains[host.state];
        let mut inside = chain.iter().position(|run| run.at == Some(frame)).unwrap();
        while inside > 0 && chain[inside - 1].at.is_none() {
            inside -= 1;
            words.extend(write(&chain[inside], count));
        }
    }
    (words.join(" "), known)
}

fn write(run: &OracleRun, count: usize) -> Vec<String> {
    let state = if run.state == 0 { String::new() } else { format!("{}:", run.state) };
    let mark = match run.at {
        _ if count == 0 => "",
        None => "?",
        Some(_) if run.by_order => "~",
        Some(_) => "",
    };
    let word = |(i, frame): (usize, &usize)| {
        let entry = run.entry && i + 1 == run.frames.len();
        format!("{}P{state}{frame}{mark}", if entry { "(" } else { "" })
    };
    run.frames.iter().enumerate().map(word).rev().collect()
}
