//! HTML that is well-formed and escaped by the way it is written: markup is what this program has
//! in its source, and all else can only be appended as text.

use std::fmt::Write as _;

use crate::quote::{WITHHELD, contains_pem, is_hidden};

/// Attributes of an element. Values are escaped.
pub(super) type Attributes<'a> = &'a [(&'static str, &'a str)];

/// A document, or what there is of it.
#[derive(Debug)]
pub(super) struct Html(String);

impl Html {
    /// A whole document in English.
    pub(super) fn document(content: impl FnOnce(&mut Self)) -> String {
        let mut html = Self("<!doctype html>\n".to_owned());
        html.element("html", &[("lang", "en")], content);
        // A line end would belong to the body.
        html.0
    }

    /// An element with what `content` appends.
    pub(super) fn element(
        &mut self,
        name: &'static str,
        attributes: Attributes<'_>,
        content: impl FnOnce(&mut Self),
    ) {
        self.void(name, attributes);
        content(self);
        self.0 += "</";
        self.0 += name;
        self.0.push('>');
    }

    /// An element with nothing but a text.
    pub(super) fn leaf(&mut self, name: &'static str, attributes: Attributes<'_>, text: &str) {
        self.element(name, attributes, |html| html.text(text));
    }

    /// An element that has no content and no end.
    pub(super) fn void(&mut self, name: &'static str, attributes: Attributes<'_>) {
        self.0.push('<');
        self.0 += name;
        for (attribute, value) in attributes {
            self.0.push(' ');
            self.0 += attribute;
            self.0 += "=\"";
            self.text(value);
            self.0.push('"');
        }
        self.0.push('>');
    }

    /// The style sheet, as it is: its hash stands in the content security policy.
    pub(super) fn style(&mut self, style: &'static str) {
        self.0 += "<style>";
        self.0 += style;
        self.0 += "</style>";
    }

    /// Text of whatever origin. What reaches us is quoted already (see [`crate::quote`]); that a
    /// page holds no markup and no key of others does not hang on that.
    pub(super) fn text(&mut self, text: &str) {
        let text = if contains_pem(text) { WITHHELD } else { text };
        for character in text.chars() {
            match character {
                '&' => self.0 += "&amp;",
                '<' => self.0 += "&lt;",
                '>' => self.0 += "&gt;",
                '"' => self.0 += "&quot;",
                '\'' => self.0 += "&#39;",
                hidden if is_hidden(hidden) => {
                    let _ = write!(self.0, "{}", hidden.escape_unicode());
                }
                plain => self.0.push(plain),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(content: impl FnOnce(&mut Html)) -> String {
        let whole = Html::document(content);
        let inner = whole.trim_start_matches("<!doctype html>\n<html lang=\"en\">");
        inner.trim_end_matches("</html>").to_owned()
    }

    #[test]
    fn text_and_attributes_cannot_become_markup() {
        for (text, shown) in [
            ("<script>alert(1)</script>", "&lt;script&gt;alert(1)&lt;/script&gt;"),
            ("\" onload='x'", "&quot; onload=&#39;x&#39;"),
            ("&lt;", "&amp;lt;"),
            ("a\u{202e}b\nc\u{0}", "a\\u{202e}b\\u{a}c\\u{0}"),
            ("x -----BEGIN PRIVATE KEY-----\nMIIE", "(withheld: it contains PEM)"),
            ("日本 ü", "日本 ü"),
        ] {
            let html = written(|html| html.leaf("p", &[("title", text)], text));
            assert_eq!(html, format!("<p title=\"{shown}\">{shown}</p>"));
        }
    }

    #[test]
    fn every_element_ends_where_it_should() {
        let html = written(|html| {
            html.element("p", &[], |html| {
                html.void("br", &[]);
                html.leaf("b", &[], "x");
            });
        });
        assert_eq!(html, "<p><br><b>x</b></p>");
    }
}
