//! The part of esbuild's metafile that is read.

use std::collections::BTreeMap;

use serde::Deserialize;

#[derive(Debug, Deserialize)]
pub struct Metafile {
    pub inputs: BTreeMap<String, Input>,
    pub outputs: BTreeMap<String, Output>,
}

#[derive(Debug, Deserialize)]
pub struct Input {}

#[derive(Debug, Deserialize)]
pub struct Output {
    #[serde(default)]
    pub imports: Vec<OutputImport>,
}

#[derive(Debug, Deserialize)]
pub struct OutputImport {
    pub path: String,
    pub kind: String,
    #[serde(default)]
    pub external: bool,
}
