//! What tenants' SQL may do: the authorizer's decision, as a pure function of what SQLite asks.
//! Lists name what is allowed; everything else is refused.

use rusqlite::ffi;

/// Prefixes of names that belong to the platform, in lower case.
const RESERVED: [&str; 2] = ["_cf_", "_verge_"];

/// SQLite's own tables that apps may read. (Writes to the schema are refused by SQLite.)
const READABLE_SQLITE_TABLES: [&str; 8] = [
    "sqlite_master",
    "sqlite_schema",
    "sqlite_temp_master",
    "sqlite_temp_schema",
    "sqlite_sequence",
    "sqlite_stat1",
    "sqlite_stat3",
    "sqlite_stat4",
];

/// Table-valued names that exist without being created and show what is not the app's.
const REFUSED_TABLES: [&str; 6] =
    ["dbstat", "bytecode", "tables_used", "sqlite_dbpage", "sqlite_stmt", "sqlite_memstat"];

/// Modules for `CREATE VIRTUAL TABLE`.
const MODULES: [&str; 4] = ["fts5", "fts5vocab", "rtree", "rtree_i32"];

/// Functions of SQL that apps may call, sorted. Left out: what loads code, reads files, or tells
/// how SQLite was built.
const FUNCTIONS: [&str; 160] = [
    "->",
    "->>",
    "abs",
    "acos",
    "acosh",
    "asin",
    "asinh",
    "atan",
    "atan2",
    "atanh",
    "avg",
    "bm25",
    "ceil",
    "ceiling",
    "changes",
    "char",
    "coalesce",
    "concat",
    "concat_ws",
    "cos",
    "cosh",
    "count",
    "cume_dist",
    "current_date",
    "current_time",
    "current_timestamp",
    "date",
    "datetime",
    "degrees",
    "dense_rank",
    "exp",
    "first_value",
    "floor",
    "format",
    "fts5",
    "fts5_get_locale",
    "fts5_insttoken",
    "fts5_locale",
    "glob",
    "group_concat",
    "hex",
    "highlight",
    "if",
    "ifnull",
    "iif",
    "instr",
    "json",
    "json_array",
    "json_array_insert",
    "json_array_length",
    "json_each",
    "json_error_position",
    "json_extract",
    "json_group_array",
    "json_group_object",
    "json_insert",
    "json_object",
    "json_patch",
    "json_pretty",
    "json_quote",
    "json_remove",
    "json_replace",
    "json_set",
    "json_tree",
    "json_type",
    "json_valid",
    "jsonb",
    "jsonb_array",
    "jsonb_array_insert",
    "jsonb_each",
    "jsonb_extract",
    "jsonb_group_array",
    "jsonb_group_object",
    "jsonb_insert",
    "jsonb_object",
    "jsonb_patch",
    "jsonb_remove",
    "jsonb_replace",
    "jsonb_set",
    "jsonb_tree",
    "julianday",
    "lag",
    "last_insert_rowid",
    "last_value",
    "lead",
    "length",
    "like",
    "likelihood",
    "likely",
    "ln",
    "log",
    "log10",
    "log2",
    "lower",
    "ltrim",
    "match",
    "max",
    "median",
    "min",
    "mod",
    "nth_value",
    "ntile",
    "nullif",
    "octet_length",
    "percent_rank",
    "percentile",
    "percentile_cont",
    "percentile_disc",
    "pi",
    "pow",
    "power",
    "printf",
    "quote",
    "radians",
    "random",
    "randomblob",
    "rank",
    "replace",
    "round",
    "row_number",
    "rtreecheck",
    "rtrim",
    "sign",
    "sin",
    "sinh",
    "snippet",
    "soundex",
    "sqlite_add_constraint",
    "sqlite_drop_column",
    "sqlite_drop_constraint",
    "sqlite_fail",
    "sqlite_find_constraint",
    "sqlite_rename_column",
    "sqlite_rename_quotefix",
    "sqlite_rename_table",
    "sqlite_rename_test",
    "sqrt",
    "strftime",
    "string_agg",
    "substr",
    "substring",
    "subtype",
    "sum",
    "tan",
    "tanh",
    "time",
    "timediff",
    "total",
    "total_changes",
    "trim",
    "trunc",
    "typeof",
    "unhex",
    "unicode",
    "unistr",
    "unistr_quote",
    "unixepoch",
    "unlikely",
    "upper",
    "zeroblob",
];

/// What a pragma may be given.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Argument {
    /// Nothing: it is only read.
    Nothing,
    /// A switch, or nothing to read it.
    Switch,
    /// The name of a table or index that is not reserved.
    Name,
    /// The same, a number, or nothing.
    NameOrNothing,
    /// A number, or nothing.
    NumberOrNothing,
}

/// D1's pragmas.
const PRAGMAS: [(&str, Argument); 19] = [
    ("table_list", Argument::NameOrNothing),
    ("table_info", Argument::Name),
    ("table_xinfo", Argument::Name),
    ("index_info", Argument::Name),
    ("index_list", Argument::Name),
    ("index_xinfo", Argument::Name),
    ("foreign_key_list", Argument::Name),
    ("foreign_key_check", Argument::NameOrNothing),
    ("quick_check", Argument::NameOrNothing),
    ("case_sensitive_like", Argument::Switch),
    ("defer_foreign_keys", Argument::Switch),
    ("foreign_keys", Argument::Switch),
    ("ignore_check_constraints", Argument::Switch),
    ("legacy_alter_table", Argument::Switch),
    ("recursive_triggers", Argument::Switch),
    ("reverse_unordered_selects", Argument::Switch),
    ("optimize", Argument::NumberOrNothing),
    ("data_version", Argument::Nothing),
    // The R*Tree module asks for it when a table is made; apps may read it, never set it.
    ("page_size", Argument::Nothing),
];

/// Pragmas that leave something behind on a connection, with what they are without an app.
pub(crate) const RESET_SWITCHES: &str = "PRAGMA case_sensitive_like=0;\
     PRAGMA ignore_check_constraints=0;\
     PRAGMA legacy_alter_table=0;\
     PRAGMA recursive_triggers=0;\
     PRAGMA reverse_unordered_selects=0;\
     PRAGMA foreign_keys=1;";

/// What SQLite asks the authorizer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Question<'a> {
    pub action: i32,
    pub first: Option<&'a str>,
    pub second: Option<&'a str>,
    pub schema: Option<&'a str>,
}

/// The answer; what is not `Allow` also leaves a note for the statement that is prepared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Allow,
    /// Allowed; the schema changes if the statement does what it says.
    AllowSchema,
    /// Allowed; the text must not name a reserved table as the new name.
    AllowAlter,
    /// Allowed; the connection's switches must be put back after it.
    AllowSwitch,
    /// SQLite leaves it out without a word.
    Skip,
    Deny,
    /// Refused with the text for `BEGIN` and its kin.
    DenyTransaction,
}

/// True for names that belong to the platform, in any case.
pub(crate) fn is_reserved(name: &str) -> bool {
    let name = name.as_bytes();
    RESERVED.iter().any(|prefix| {
        name.get(..prefix.len()).is_some_and(|head| head.eq_ignore_ascii_case(prefix.as_bytes()))
    })
}

fn allow_name(name: Option<&str>, answer: Answer) -> Answer {
    match name {
        Some(name) if !is_reserved(name) => answer,
        _ => Answer::Deny,
    }
}

/// Decides one question.
pub(crate) fn decide(question: Question<'_>) -> Answer {
    let Question { action, first, second, schema } = question;
    match action {
        ffi::SQLITE_TRANSACTION | ffi::SQLITE_SAVEPOINT => return Answer::DenyTransaction,
        // For this one SQLite gives the schema first and the table second.
        ffi::SQLITE_ALTER_TABLE => {
            return match first {
                Some("main") => allow_name(second, Answer::AllowAlter),
                _ => Answer::Deny,
            };
        }
        _ => {}
    }
    match schema {
        None | Some("main") => {}
        // Temporary tables are refused as on D1; SQLite itself looks into their schema.
        Some("temp") if matches!(action, ffi::SQLITE_READ | ffi::SQLITE_UPDATE) => {
            let known = first.is_some_and(|name| name.starts_with("sqlite_temp_"));
            let readable = known || first.is_some_and(|name| name == "sqlite_master");
            return if readable { Answer::Allow } else { Answer::Deny };
        }
        Some(_) => return Answer::Deny,
    }
    match action {
        ffi::SQLITE_SELECT | ffi::SQLITE_RECURSIVE => Answer::Allow,
        ffi::SQLITE_READ => decide_read(first),
        ffi::SQLITE_INSERT | ffi::SQLITE_UPDATE | ffi::SQLITE_DELETE => decide_read(first),
        ffi::SQLITE_CREATE_TABLE
        | ffi::SQLITE_DROP_TABLE
        | ffi::SQLITE_CREATE_VIEW
        | ffi::SQLITE_DROP_VIEW => allow_name(first, Answer::AllowSchema),
        ffi::SQLITE_REINDEX => allow_name(first, Answer::Allow),
        // Of all tables, the platform's are passed over: statistics hold samples of their keys.
        ffi::SQLITE_ANALYZE => match allow_name(first, Answer::Allow) {
            Answer::Deny => Answer::Skip,
            answer => answer,
        },
        ffi::SQLITE_CREATE_INDEX
        | ffi::SQLITE_DROP_INDEX
        | ffi::SQLITE_CREATE_TRIGGER
        | ffi::SQLITE_DROP_TRIGGER => match allow_name(first, Answer::AllowSchema) {
            Answer::Deny => Answer::Deny,
            _ => allow_name(second, Answer::AllowSchema),
        },
        ffi::SQLITE_CREATE_VTABLE | ffi::SQLITE_DROP_VTABLE => {
            let module = second.unwrap_or_default();
            if MODULES.iter().any(|known| known.eq_ignore_ascii_case(module)) {
                allow_name(first, Answer::AllowSchema)
            } else {
                Answer::Deny
            }
        }
        ffi::SQLITE_FUNCTION => {
            let name = second.unwrap_or_default();
            if FUNCTIONS.iter().any(|known| known.eq_ignore_ascii_case(name)) {
                Answer::Allow
            } else {
                Answer::Deny
            }
        }
        ffi::SQLITE_PRAGMA => decide_pragma(first.unwrap_or_default(), second),
        _ => Answer::Deny,
    }
}

fn decide_read(table: Option<&str>) -> Answer {
    let Some(table) = table else { return Answer::Deny };
    if is_reserved(table) || REFUSED_TABLES.iter().any(|name| name.eq_ignore_ascii_case(table)) {
        return Answer::Deny;
    }
    let own = table.get(..7).is_some_and(|head| head.eq_ignore_ascii_case("sqlite_"));
    if own && !READABLE_SQLITE_TABLES.iter().any(|name| name.eq_ignore_ascii_case(table)) {
        return Answer::Deny;
    }
    Answer::Allow
}

fn decide_pragma(name: &str, argument: Option<&str>) -> Answer {
    let Some((_, allowed)) = PRAGMAS.iter().find(|(known, _)| known.eq_ignore_ascii_case(name))
    else {
        return Answer::Deny;
    };
    let is_number = |text: &str| match text.get(..2) {
        Some("0x" | "0X") => i64::from_str_radix(&text[2..], 16).is_ok(),
        _ => text.parse::<i64>().is_ok(),
    };
    let yes = |allow: bool| if allow { Answer::Allow } else { Answer::Deny };
    match (allowed, argument) {
        (Argument::Name, None) => Answer::Deny,
        (_, None) => Answer::Allow,
        (Argument::Nothing, Some(_)) => Answer::Deny,
        (Argument::Switch, Some(argument)) => {
            let argument = argument.trim_matches(['\'', '"']);
            let known = ["0", "1", "on", "off", "yes", "no", "true", "false"];
            if !known.iter().any(|word| word.eq_ignore_ascii_case(argument)) {
                return Answer::Deny;
            }
            // This one ends with the transaction by itself.
            if name.eq_ignore_ascii_case("defer_foreign_keys") {
                Answer::Allow
            } else {
                Answer::AllowSwitch
            }
        }
        (Argument::Name, Some(argument)) => yes(!is_reserved(argument)),
        (Argument::NameOrNothing, Some(argument)) => {
            yes(is_number(argument) || !is_reserved(argument))
        }
        (Argument::NumberOrNothing, Some(argument)) => yes(is_number(argument)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(action: i32, first: Option<&str>, second: Option<&str>) -> Answer {
        decide(Question { action, first, second, schema: Some("main") })
    }

    #[test]
    fn reserved_names_hold_in_any_case() {
        for name in ["_cf_KV", "_CF_kv", "_Verge_x", "_verge_"] {
            assert!(is_reserved(name), "{name}");
            assert_eq!(ask(ffi::SQLITE_READ, Some(name), Some("x")), Answer::Deny);
            assert_eq!(ask(ffi::SQLITE_CREATE_TABLE, Some(name), None), Answer::Deny);
            assert_eq!(ask(ffi::SQLITE_ALTER_TABLE, Some("main"), Some(name)), Answer::Deny);
        }
        assert!(!is_reserved("_c"));
        assert!(!is_reserved("é_cf_"));
    }

    #[test]
    fn what_is_not_known_is_refused() {
        assert_eq!(ask(9999, Some("x"), None), Answer::Deny);
        assert_eq!(ask(ffi::SQLITE_ATTACH, Some("x"), None), Answer::Deny);
        assert_eq!(ask(ffi::SQLITE_FUNCTION, None, Some("load_extension")), Answer::Deny);
        assert_eq!(ask(ffi::SQLITE_PRAGMA, Some("journal_mode"), None), Answer::Deny);
        assert_eq!(ask(ffi::SQLITE_PRAGMA, Some("page_size"), Some("512")), Answer::Deny);
        assert_eq!(ask(ffi::SQLITE_PRAGMA, Some("foreign_keys"), Some("OFF")), Answer::AllowSwitch);
    }
}
