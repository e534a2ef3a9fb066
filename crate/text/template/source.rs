//! Preprocesses the text of a template for minijinja: limits on its depth, and syntax that minijinja lacks.

use minijinja::machinery::{Token, tokenize};
use minijinja::syntax::SyntaxConfig;

use super::limits::SYNTAX_DEPTH;
use super::rewrite::UNFOLDED;
use crate::bail;
use crate::error::Result;

/// What a bracket or a statement inside another counts, by the native stack that it takes; a token counts one.
const NEST: usize = 4;
/// What an `elif` counts: it is an `if` in the `else` of the one before.
const ELIF: usize = 2;
/// Statements without a body. All others count as open until an end, names that minijinja does not know among them.
const NO_BODY: [&str; 9] = ["elif", "else", "do", "break", "continue", "include", "extends", "import", "from"];

/// Refuses what would overflow the stack: minijinja's parser, its code generator and the drop of its syntax tree recurse
/// once for each link of a chain (`a.b.c`, `1 + 1 + 1`, `not not x`, `elif`) and for each level of nesting.
///
/// Each level of a syntax tree takes a token of its own. So the tokens on the longest path through statements and
/// brackets bound its depth. Items between commas are siblings: they do not add up.
pub(super) fn check_depth(source: &str, syntax: SyntaxConfig) -> Result<()> {
    let mut depth = Depth::default();
    for token in tokenize(source, false, syntax) {
        // The parser meets the same fault in the same place and goes no further.
        let Ok((token, span)) = token else { return Ok(()) };
        if depth.push(&token) > SYNTAX_DEPTH {
            let what = "the chat template nests or chains too much in one expression or statement";
            bail!(TemplateLimit, "{what} (line {}); at most {SYNTAX_DEPTH} levels are allowed", span.start_line);
        }
    }
    Ok(())
}

#[derive(Default)]
struct Depth<'s> {
    /// What each open statement counts, its `elif`s included.
    statements: Vec<usize>,
    /// The sum of `statements`.
    around: usize,
    /// The tag that is read, and its open brackets.
    brackets: Vec<Bracket>,
    /// The sum of what `brackets` count.
    open: usize,
    /// The first word of the tag.
    keyword: Option<&'s str>,
    assigns: bool,
}

#[derive(Default)]
struct Bracket {
    /// The tokens since the last comma.
    tokens: usize,
    /// The depth of the deepest bracket since the last comma.
    inside: usize,
    /// The depth of the deepest item before the last comma.
    before: usize,
}

impl<'s> Depth<'s> {
    /// Counts a token. Returns the depth of the deepest path that goes through it.
    fn push(&mut self, token: &Token<'s>) -> usize {
        match token {
            Token::BlockStart | Token::VariableStart => {
                (self.open, self.keyword, self.assigns) = (0, None, false);
                self.brackets = vec![Bracket::default()];
            }
            Token::ParenOpen | Token::BracketOpen | Token::BraceOpen => {
                self.brackets.push(Bracket::default());
                self.open += NEST;
            }
            Token::ParenClose | Token::BracketClose | Token::BraceClose if self.brackets.len() > 1 => {
                let inner = self.brackets.pop().unwrap_or_default();
                self.open -= NEST + inner.tokens;
                let inside = NEST + inner.before.max(inner.tokens + inner.inside);
                self.add_token(inside);
            }
            Token::Comma => {
                if let Some(item) = self.brackets.last_mut() {
                    self.open -= item.tokens;
                    *item = Bracket { before: item.before.max(item.tokens + item.inside), ..Bracket::default() };
                }
            }
            Token::BlockEnd => self.end_of_statement(),
            Token::TemplateData(_) | Token::VariableEnd => {}
            _ => {
                if let (None, Token::Ident(word)) = (self.keyword, token) {
                    self.keyword = Some(word);
                }
                self.assigns |= matches!(token, Token::Assign) && self.brackets.len() == 1;
                self.add_token(0);
                // `adapt` makes two tokens of a unary plus.
                if matches!(token, Token::Plus) {
                    self.add_token(0);
                }
            }
        }
        self.around + self.open + self.brackets.last().map_or(0, |b| b.inside)
    }

    fn add_token(&mut self, inside: usize) {
        if let Some(bracket) = self.brackets.last_mut() {
            bracket.tokens += 1;
            bracket.inside = bracket.inside.max(inside);
            self.open += 1;
        }
    }

    fn end_of_statement(&mut self) {
        self.brackets.clear();
        self.open = 0;
        match self.keyword {
            Some("elif") => {
                if let Some(open) = self.statements.last_mut() {
                    *open += ELIF;
                    self.around += ELIF;
                }
            }
            // An end that does not fit is an error of syntax, where the parser stops.
            Some(word) if word.starts_with("end") => self.around -= self.statements.pop().unwrap_or(0),
            // `{% set x = 1 %}` has no body, `{% set x %}` has one.
            Some("set") if self.assigns => {}
            Some(word) if NO_BODY.contains(&word) => {}
            _ => {
                self.statements.push(NEST);
                self.around += NEST;
            }
        }
    }
}

/// Puts what minijinja's parser does not know into its words:
///
/// * `{% generation %}`, which marks in templates for training what the model wrote: a block with its own variables.
/// * Unary `+`: two negations, which fail for the same values.
/// * Operands of `*` and `~` get a filter that does nothing and is taken out again, because minijinja's compiler folds
///   constants without a limit (`(1,) * 100000000` are 2 GB) and joins them with its own way to print floats.
pub(super) fn adapt(source: &str, syntax: SyntaxConfig) -> String {
    let mut out = String::with_capacity(source.len());
    let mut copied = 0;
    let mut before = Token::TemplateData("");
    // Whether an operator in this place stands between two operands.
    let mut operand = false;
    for (token, span) in tokenize(source, false, syntax).map_while(Result::ok) {
        let (start, end) = (span.start_offset as usize, span.end_offset as usize);
        let mut replace = |text: &str, end: usize| {
            out.push_str(&source[copied..start]);
            out.push_str(text);
            copied = end;
        };
        match (&before, &token) {
            (Token::BlockStart, Token::Ident("generation")) => replace("with", end),
            (Token::BlockStart, Token::Ident("endgeneration")) => replace("endwith", end),
            (_, Token::Plus) if !operand => replace("--", end),
            // `*` before a list of arguments has no operand.
            (_, Token::Mul | Token::Tilde) if operand => replace(&format!("|{UNFOLDED} "), start),
            _ => {}
        }
        operand = ends_operand(&token) || matches!((&before, &token), (Token::Dot, Token::Ident(_)));
        before = token;
    }
    out + &source[copied..]
}

/// Whether an operand ends with this token.
fn ends_operand(token: &Token) -> bool {
    match token {
        Token::Ident(word) => !["and", "elif", "else", "if", "in", "is", "not", "or"].contains(word),
        Token::Str(_) | Token::String(_) | Token::Int(_) | Token::Int128(_) | Token::Float(_) => true,
        Token::ParenClose | Token::BracketClose | Token::BraceClose => true,
        _ => false,
    }
}
