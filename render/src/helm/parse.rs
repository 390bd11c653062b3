//! Parses a template into trees: one for the text itself and one for each `define` and `block` in it. Errors
//! are worded as Go words them.

use std::rc::Rc;

use super::ast::{Branch, Command, Expr, ExprKind, List, Node, Number, Pipe, Source, Tree};
use super::eval::{RED_ZONE, STACK_STEP};
use super::funcs;
use super::lex::{Keyword, Kind, Lexer, Token};
use super::quote::{quote, unquote, unquote_char};

/// Nested blocks and parentheses; Go allows ten thousand parentheses, no template has fifty.
const MAX_DEPTH: usize = 500;

/// Returns the trees of `text`: first the definitions as they end, last the text itself.
///
/// # Errors
///
/// Go's text: `template: NAME:LINE: what is wrong`.
pub(super) fn parse(name: &Rc<str>, text: &Rc<str>) -> Result<Vec<Tree>, String> {
    let source = Rc::new(Source {
        name: name.clone(),
        text: text.clone(),
    });
    let mut parser = Parser {
        source,
        lexer: Lexer::new(text),
        pushed: Vec::new(),
        line: 1,
        action_line: 0,
        scope: Scope::default(),
        trees: Vec::new(),
        depth: 0,
    };
    parser.template(name)?;
    Ok(parser.trees)
}

/// What each definition starts afresh.
struct Scope {
    variables: Vec<Rc<str>>,
    ranges: usize,
}

impl Default for Scope {
    fn default() -> Self {
        Scope {
            variables: vec!["$".into()],
            ranges: 0,
        }
    }
}

struct Parser<'a> {
    source: Rc<Source>,
    lexer: Lexer<'a>,
    pushed: Vec<Token<'a>>,
    /// The line of the token read last, which errors name.
    line: usize,
    action_line: usize,
    scope: Scope,
    trees: Vec<Tree>,
    depth: usize,
}

/// What ends a list of nodes.
enum Ending {
    End,
    Else { pos: usize, chains: Option<Keyword> },
}

impl Ending {
    fn text(&self) -> &'static str {
        match self {
            Ending::End => "{{end}}",
            Ending::Else { .. } => "{{else}}",
        }
    }
}

enum Item {
    Node(Node),
    Ending(Ending),
}

impl<'a> Parser<'a> {
    fn next(&mut self) -> Token<'a> {
        self.pushed.pop().unwrap_or_else(|| {
            let token = self.lexer.next();
            self.line = token.line;
            token
        })
    }

    fn push_back(&mut self, token: Token<'a>) {
        self.pushed.push(token);
    }

    fn peek(&mut self) -> &Token<'a> {
        let token = self.next();
        self.pushed.push(token);
        self.pushed
            .last()
            .unwrap_or_else(|| unreachable!("a token was just pushed"))
    }

    fn next_non_space(&mut self) -> Token<'a> {
        loop {
            let token = self.next();
            if token.kind != Kind::Space {
                return token;
            }
        }
    }

    fn peek_non_space(&mut self) -> &Token<'a> {
        let token = self.next_non_space();
        self.pushed.push(token);
        self.pushed
            .last()
            .unwrap_or_else(|| unreachable!("a token was just pushed"))
    }

    fn error<T>(&self, message: impl AsRef<str>) -> Result<T, String> {
        Err(format!(
            "template: {}:{}: {}",
            self.source.name,
            self.line,
            message.as_ref()
        ))
    }

    fn unexpected<T>(&self, token: &Token<'_>, context: &str) -> Result<T, String> {
        if token.kind != Kind::Error {
            return self.error(format!("unexpected {} in {context}", token.describe()));
        }
        let mut extra = String::new();
        if self.action_line != 0 && self.action_line != token.line {
            extra = format!(" in action started at {}:{}", self.source.name, self.action_line);
            if token.text.ends_with(" action") {
                extra = extra[" in action".len()..].to_owned();
            }
        }
        self.error(format!("{}{extra}", token.text))
    }

    fn expect(&mut self, kind: Kind, context: &str) -> Result<Token<'a>, String> {
        let token = self.next_non_space();
        if token.kind == kind {
            Ok(token)
        } else {
            self.unexpected(&token, context)
        }
    }

    fn enter(&mut self) -> Result<(), String> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return self.error("max expression depth exceeded");
        }
        Ok(())
    }

    fn template(&mut self, name: &Rc<str>) -> Result<(), String> {
        let pos = self.peek().pos;
        let mut nodes = Vec::new();
        while self.peek().kind != Kind::End {
            if self.peek().kind == Kind::LeftDelim {
                let delimiter = self.next();
                let token = self.next_non_space();
                if token.kind == Kind::Keyword(Keyword::Define) {
                    self.definition()?;
                    continue;
                }
                self.push_back(token);
                self.push_back(delimiter);
            }
            match self.item()? {
                Item::Node(node) => nodes.push(node),
                Item::Ending(ending) => return self.error(format!("unexpected {}", ending.text())),
            }
        }
        self.add(Tree {
            name: name.clone(),
            source: self.source.clone(),
            root: List { pos, nodes },
        })
    }

    fn add(&mut self, tree: Tree) -> Result<(), String> {
        let Some(at) = self.trees.iter().position(|other| other.name == tree.name) else {
            self.trees.push(tree);
            return Ok(());
        };
        if self.trees[at].is_empty() {
            self.trees[at] = tree;
        } else if !tree.is_empty() {
            let name = quote(&tree.name);
            return self.error(format!("template: multiple definition of template {name}"));
        }
        Ok(())
    }

    fn definition(&mut self) -> Result<(), String> {
        let context = "define clause";
        let token = self.next_non_space();
        if !matches!(token.kind, Kind::String | Kind::RawString) {
            return self.unexpected(&token, context);
        }
        let name = self.unquoted(&token)?;
        self.expect(Kind::RightDelim, context)?;
        self.body(name, context)
    }

    /// Parses a definition's nodes in a scope of their own, up to its end.
    fn body(&mut self, name: Rc<str>, context: &str) -> Result<(), String> {
        let outer = std::mem::take(&mut self.scope);
        // A definition inside an action starts without one.
        let action_line = std::mem::take(&mut self.action_line);
        let (root, ending) = self.list()?;
        if !matches!(ending, Ending::End) {
            return self.error(format!("unexpected {} in {context}", ending.text()));
        }
        self.add(Tree {
            name,
            source: self.source.clone(),
            root,
        })?;
        self.scope = outer;
        self.action_line = action_line;
        Ok(())
    }

    fn unquoted(&self, token: &Token<'_>) -> Result<Rc<str>, String> {
        unquote(&token.text).map_or_else(|| self.error("invalid syntax"), |text| Ok(text.into()))
    }

    fn list(&mut self) -> Result<(List, Ending), String> {
        self.enter()?;
        let pos = self.peek_non_space().pos;
        let mut nodes = Vec::new();
        while self.peek_non_space().kind != Kind::End {
            match self.item()? {
                Item::Node(node) => nodes.push(node),
                Item::Ending(ending) => {
                    self.depth -= 1;
                    return Ok((List { pos, nodes }, ending));
                }
            }
        }
        self.error("unexpected EOF")
    }

    fn item(&mut self) -> Result<Item, String> {
        let token = self.next_non_space();
        match token.kind {
            Kind::Text => Ok(Item::Node(Node::Text((&*token.text).into()))),
            Kind::LeftDelim => {
                self.action_line = token.line;
                let item = self.action();
                self.action_line = 0;
                item
            }
            _ => self.unexpected(&token, "input"),
        }
    }

    fn action(&mut self) -> Result<Item, String> {
        stacker::maybe_grow(RED_ZONE, STACK_STEP, || self.parse_action())
    }

    fn parse_action(&mut self) -> Result<Item, String> {
        let token = self.next_non_space();
        let node = match token.kind {
            Kind::Keyword(Keyword::Block) => self.block()?,
            Kind::Keyword(Keyword::Break) => self.jump("{{break}}", Node::Break)?,
            Kind::Keyword(Keyword::Continue) => self.jump("{{continue}}", Node::Continue)?,
            Kind::Keyword(Keyword::Else) => return self.otherwise().map(Item::Ending),
            Kind::Keyword(Keyword::End) => {
                self.expect(Kind::RightDelim, "end")?;
                return Ok(Item::Ending(Ending::End));
            }
            Kind::Keyword(Keyword::If) => Node::If(self.control("if")?),
            Kind::Keyword(Keyword::Range) => Node::Range(self.control("range")?),
            Kind::Keyword(Keyword::With) => Node::With(self.control("with")?),
            Kind::Keyword(Keyword::Template) => self.call_template()?,
            _ => {
                let pos = token.pos;
                self.push_back(token);
                Node::Action {
                    pos,
                    pipe: self.pipeline("command", Kind::RightDelim)?,
                }
            }
        };
        Ok(Item::Node(node))
    }

    fn jump(&mut self, word: &str, node: Node) -> Result<Node, String> {
        let token = self.next_non_space();
        if token.kind != Kind::RightDelim {
            return self.unexpected(&token, word);
        }
        if self.scope.ranges == 0 {
            return self.error(format!("{word} outside {{{{range}}}}"));
        }
        Ok(node)
    }

    fn otherwise(&mut self) -> Result<Ending, String> {
        let peeked = self.peek_non_space();
        if let Kind::Keyword(word @ (Keyword::If | Keyword::With)) = peeked.kind {
            return Ok(Ending::Else {
                pos: peeked.pos,
                chains: Some(word),
            });
        }
        let token = self.expect(Kind::RightDelim, "else")?;
        Ok(Ending::Else {
            pos: token.pos,
            chains: None,
        })
    }

    fn control(&mut self, context: &'static str) -> Result<Branch, String> {
        let variables = self.scope.variables.len();
        let pipe = self.pipeline(context, Kind::RightDelim)?;
        self.scope.ranges += usize::from(context == "range");
        let (list, ending) = self.list()?;
        self.scope.ranges -= usize::from(context == "range");
        let otherwise = match ending {
            Ending::End => None,
            Ending::Else { pos, chains } => Some(self.else_list(context, pos, chains)?),
        };
        self.scope.variables.truncate(variables);
        Ok(Branch {
            pos: pipe.pos,
            pipe,
            list,
            otherwise,
        })
    }

    fn else_list(&mut self, context: &str, pos: usize, chains: Option<Keyword>) -> Result<List, String> {
        let chained = match (context, chains) {
            ("if", Some(Keyword::If)) => Some(Node::If as fn(Branch) -> Node),
            ("with", Some(Keyword::With)) => Some(Node::With as fn(Branch) -> Node),
            _ => None,
        };
        if let Some(node) = chained {
            self.next();
            self.enter()?;
            let word = if context == "if" { "if" } else { "with" };
            let branch = stacker::maybe_grow(RED_ZONE, STACK_STEP, || self.control(word))?;
            self.depth -= 1;
            return Ok(List {
                pos,
                nodes: vec![node(branch)],
            });
        }
        let (list, ending) = self.list()?;
        match ending {
            Ending::End => Ok(list),
            Ending::Else { .. } => self.error(format!("expected end; found {}", ending.text())),
        }
    }

    fn block(&mut self) -> Result<Node, String> {
        let context = "block clause";
        let token = self.next_non_space();
        let name = self.template_name(&token, context)?;
        let pipe = self.pipeline(context, Kind::RightDelim)?;
        self.body(name.clone(), context)?;
        Ok(Node::Template {
            pos: token.pos,
            quoted: quote(&name).into(),
            name,
            pipe: Some(pipe),
        })
    }

    fn call_template(&mut self) -> Result<Node, String> {
        let context = "template clause";
        let token = self.next_non_space();
        let name = self.template_name(&token, context)?;
        let after = self.next_non_space();
        let mut pipe = None;
        if after.kind != Kind::RightDelim {
            self.push_back(after);
            pipe = Some(self.pipeline(context, Kind::RightDelim)?);
        }
        Ok(Node::Template {
            pos: token.pos,
            quoted: quote(&name).into(),
            name,
            pipe,
        })
    }

    fn template_name(&mut self, token: &Token<'a>, context: &str) -> Result<Rc<str>, String> {
        if matches!(token.kind, Kind::String | Kind::RawString) {
            return self.unquoted(token);
        }
        self.unexpected(token, context)
    }

    fn pipeline(&mut self, context: &str, end: Kind) -> Result<Pipe, String> {
        stacker::maybe_grow(RED_ZONE, STACK_STEP, || self.parse_pipeline(context, end))
    }

    fn parse_pipeline(&mut self, context: &str, end: Kind) -> Result<Pipe, String> {
        let pos = self.peek_non_space().pos;
        let mut pipe = Pipe {
            pos,
            assigns: false,
            declares: Vec::new(),
            commands: Vec::new(),
        };
        while self.declaration(&mut pipe, context)? {}
        loop {
            let token = self.next_non_space();
            if token.kind == end {
                return self.checked(pipe, context);
            }
            match token.kind {
                Kind::Bool
                | Kind::CharConstant
                | Kind::Complex
                | Kind::Dot
                | Kind::Field
                | Kind::Identifier
                | Kind::Number
                | Kind::Keyword(Keyword::Nil)
                | Kind::RawString
                | Kind::String
                | Kind::Variable
                | Kind::LeftParen => {
                    self.push_back(token);
                    let command = self.command()?;
                    pipe.commands.push(command);
                }
                _ => return self.unexpected(&token, context),
            }
        }
    }

    /// Takes one variable that the pipeline declares or assigns; returns whether another may follow.
    fn declaration(&mut self, pipe: &mut Pipe, context: &str) -> Result<bool, String> {
        if self.peek_non_space().kind != Kind::Variable {
            return Ok(false);
        }
        let variable = self.next();
        let after = self.next();
        let spaced = after.kind == Kind::Space;
        let (next, space) = if spaced {
            (self.next_non_space(), Some(after))
        } else {
            (after, None)
        };
        match next.kind {
            Kind::Assign | Kind::Declare => {
                pipe.assigns = next.kind == Kind::Assign;
                self.declare(pipe, &variable);
                Ok(false)
            }
            Kind::Char if next.text == "," => {
                self.declare(pipe, &variable);
                if context != "range" || pipe.declares.len() >= 2 {
                    return self.error(format!("too many declarations in {context}"));
                }
                match self.peek_non_space().kind {
                    Kind::Variable | Kind::RightDelim | Kind::RightParen => Ok(true),
                    _ => self.error("range can only initialize variables"),
                }
            }
            _ => {
                self.push_back(next);
                if let Some(space) = space {
                    self.push_back(space);
                }
                self.push_back(variable);
                Ok(false)
            }
        }
    }

    fn declare(&mut self, pipe: &mut Pipe, variable: &Token<'_>) {
        let name: Rc<str> = (&*variable.text).into();
        pipe.declares.push(name.clone());
        self.scope.variables.push(name);
    }

    fn checked(&self, pipe: Pipe, context: &str) -> Result<Pipe, String> {
        if pipe.commands.is_empty() {
            return self.error(format!("missing value for {context}"));
        }
        for (at, command) in pipe.commands.iter().enumerate().skip(1) {
            if let Some(
                ExprKind::Bool(_)
                | ExprKind::Dot
                | ExprKind::Nil
                | ExprKind::Number(_)
                | ExprKind::String { .. },
            ) = command.args.first().map(|arg| &arg.kind)
            {
                return self.error(format!("non executable command in pipeline stage {}", at + 1));
            }
        }
        Ok(pipe)
    }

    fn command(&mut self) -> Result<Command, String> {
        let pos = self.peek_non_space().pos;
        let mut args = Vec::new();
        loop {
            self.peek_non_space();
            if let Some(operand) = self.operand()? {
                args.push(operand);
            }
            let token = self.next();
            match token.kind {
                Kind::Space => continue,
                Kind::RightDelim | Kind::RightParen => self.push_back(token),
                Kind::Pipe => {}
                _ => return self.unexpected(&token, "operand"),
            }
            break;
        }
        if args.is_empty() {
            return self.error("empty command");
        }
        Ok(Command { pos, args })
    }

    fn operand(&mut self) -> Result<Option<Expr>, String> {
        let Some(term) = self.term()? else { return Ok(None) };
        if self.peek().kind != Kind::Field {
            return Ok(Some(term));
        }
        let pos = self.peek().pos;
        let mut fields: Vec<Rc<str>> = Vec::new();
        while self.peek().kind == Kind::Field {
            let field = self.next();
            fields.push(field.text[1..].into());
        }
        let kind = match term.kind {
            ExprKind::Field(mut first) => {
                first.extend(fields);
                ExprKind::Field(first)
            }
            ExprKind::Variable {
                name,
                fields: mut first,
            } => {
                first.extend(fields);
                ExprKind::Variable { name, fields: first }
            }
            ExprKind::Bool(_)
            | ExprKind::String { .. }
            | ExprKind::Number(_)
            | ExprKind::Nil
            | ExprKind::Dot => {
                let term = quote(&term.to_string());
                return self.error(format!("unexpected . after term {term}"));
            }
            _ => ExprKind::Chain {
                base: Box::new(term),
                fields,
            },
        };
        Ok(Some(Expr { pos, kind }))
    }

    fn term(&mut self) -> Result<Option<Expr>, String> {
        let token = self.next_non_space();
        let kind = match token.kind {
            Kind::Identifier => match funcs::find(&token.text) {
                Some(function) => ExprKind::Call(function),
                None => return self.error(format!("function {} not defined", quote(&token.text))),
            },
            Kind::Dot => ExprKind::Dot,
            Kind::Keyword(Keyword::Nil) => ExprKind::Nil,
            Kind::Variable => self.variable(&token)?,
            Kind::Field => ExprKind::Field(vec![token.text[1..].into()]),
            Kind::Bool => ExprKind::Bool(token.text == "true"),
            Kind::CharConstant | Kind::Complex | Kind::Number => match number(&token) {
                Ok(number) => ExprKind::Number(number),
                Err(message) => return self.error(message),
            },
            Kind::LeftParen => {
                self.enter()?;
                let pipe = self.pipeline("parenthesized pipeline", Kind::RightParen)?;
                self.depth -= 1;
                let pos = pipe.pos;
                return Ok(Some(Expr {
                    pos,
                    kind: ExprKind::Pipe(Box::new(pipe)),
                }));
            }
            Kind::String | Kind::RawString => ExprKind::String {
                text: self.unquoted(&token)?,
                quoted: (&*token.text).into(),
            },
            _ => {
                self.push_back(token);
                return Ok(None);
            }
        };
        Ok(Some(Expr { pos: token.pos, kind }))
    }

    fn variable(&mut self, token: &Token<'_>) -> Result<ExprKind, String> {
        let name: Rc<str> = (&*token.text).into();
        if !self.scope.variables.contains(&name) {
            return self.error(format!("undefined variable {}", quote(&name)));
        }
        Ok(ExprKind::Variable {
            name,
            fields: Vec::new(),
        })
    }
}

fn number(token: &Token<'_>) -> Result<Number, String> {
    let text: Rc<str> = (&*token.text).into();
    let mut number = Number {
        text: text.clone(),
        int: None,
        uint: None,
        float: None,
        complex: false,
    };
    if token.kind == Kind::CharConstant {
        let c = unquote_char(&text).ok_or_else(|| format!("malformed character constant: {text}"))?;
        number.int = Some(i64::from(u32::from(c)));
        number.uint = Some(u64::from(u32::from(c)));
        number.float = Some(f64::from(u32::from(c)));
        return Ok(number);
    }
    if token.kind == Kind::Complex || text.ends_with('i') {
        number.complex = true;
        return Ok(number);
    }
    number.uint = parse_unsigned(&text);
    number.int = parse_signed(&text);
    if let Some(int) = number.int {
        number.float = Some(int as f64);
        number.uint = number.uint.or(u64::try_from(int).ok());
    } else if let Some(uint) = number.uint {
        number.float = Some(uint as f64);
    } else if let Some(float) = parse_float(&text) {
        if !text.contains(['.', 'e', 'E', 'p', 'P']) {
            return Err(format!("integer overflow: {}", quote(&text)));
        }
        number.float = Some(float);
        if float.fract() == 0.0 && float.abs() < 9.3e18 {
            number.int = Some(float as i64);
            number.uint = (float >= 0.0).then_some(float as u64);
        }
    } else {
        return Err(format!("illegal number syntax: {}", quote(&text)));
    }
    Ok(number)
}

fn parse_unsigned(text: &str) -> Option<u64> {
    let (digits, radix) = based(text)?;
    u64::from_str_radix(&digits, radix).ok()
}

fn parse_signed(text: &str) -> Option<i64> {
    let (sign, rest) = match text.strip_prefix(['+', '-']) {
        Some(rest) => (&text[..1], rest),
        None => ("", text),
    };
    let (digits, radix) = based(rest)?;
    i64::from_str_radix(&format!("{sign}{digits}"), radix).ok()
}

/// Splits a literal into digits without underscores and their base, as Go's base 0.
fn based(text: &str) -> Option<(String, u32)> {
    let (digits, radix) = match text.as_bytes() {
        [b'0', b'x' | b'X', ..] => (&text[2..], 16),
        [b'0', b'o' | b'O', ..] => (&text[2..], 8),
        [b'0', b'b' | b'B', ..] => (&text[2..], 2),
        [b'0', _, ..] => (&text[1..], 8),
        _ => (text, 10),
    };
    let unsigned = !digits.starts_with(['+', '-']);
    let spaced = !text.ends_with('_') && !text.contains("__") && !text.starts_with('_');
    (unsigned && spaced).then(|| (digits.replace('_', ""), radix))
}

fn parse_float(text: &str) -> Option<f64> {
    text.replace('_', "")
        .parse()
        .ok()
        .filter(|float: &f64| float.is_finite())
}
