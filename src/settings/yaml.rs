//! Whether a text of YAML stays small when it is read.

use std::collections::HashMap;

use yaml_rust2::Event;
use yaml_rust2::parser::Parser;

/// No setting is nested deeper.
const DEEPEST: usize = 16;
/// What aliases may repeat, in bytes of memory.
const REPEATED: usize = 1024 * 1024;
/// Of a value besides its text, about.
const WEIGHT: usize = 64;

/// Whether nothing is nested deeper than settings are, and aliases repeat little. Of what is no YAML
/// only that is looked at which stands before the mistake.
pub(super) fn is_bounded(text: &str) -> bool {
    let mut parser = Parser::new_from_str(text);
    let mut extent = Extent::default();
    loop {
        match parser.next_token() {
            Ok((Event::StreamEnd, _)) | Err(_) => return true,
            Ok((event, _)) if extent.take(&event).is_some() => {}
            Ok(_) => return false,
        }
    }
}

#[derive(Default)]
struct Extent {
    /// Lists and mappings that are not at their ends, each with its anchor.
    open: Vec<(Node, usize)>,
    /// What an alias stands for.
    anchored: HashMap<usize, Node>,
    repeated: usize,
}

/// A value with all that is in it.
#[derive(Clone, Copy, Default)]
struct Node {
    weight: usize,
    /// Levels of lists and mappings.
    depth: usize,
}

impl Extent {
    /// `None` if it is too much.
    fn take(&mut self, event: &Event) -> Option<()> {
        match event {
            Event::Scalar(text, _, anchor, _) => {
                self.close(Node { weight: WEIGHT + text.len(), depth: 0 }, *anchor);
            }
            Event::SequenceStart(anchor, _) | Event::MappingStart(anchor, _) => {
                self.open.push((Node { weight: WEIGHT, depth: 1 }, *anchor));
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let (node, anchor) = self.open.pop()?;
                self.close(node, anchor);
            }
            Event::Alias(anchor) => {
                let node = self.anchored.get(anchor).copied().unwrap_or_default();
                self.repeated += node.weight;
                (self.open.len() + node.depth <= DEEPEST).then_some(())?;
                self.close(node, 0);
            }
            _ => {}
        }
        (self.open.len() <= DEEPEST && self.repeated <= REPEATED).then_some(())
    }

    fn close(&mut self, node: Node, anchor: usize) {
        if anchor > 0 {
            self.anchored.insert(anchor, node);
        }
        if let Some((around, _)) = self.open.last_mut() {
            around.weight += node.weight;
            around.depth = around.depth.max(node.depth + 1);
        }
    }
}
