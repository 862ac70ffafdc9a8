-- # transactions
BEGIN
BEGIN IMMEDIATE
begin exclusive transaction
COMMIT
END
ROLLBACK
ROLLBACK TO x
SAVEPOINT x
RELEASE x
/* hidden */ BEGIN
-- # other files
ATTACH 'x.db' AS y
ATTACH ':memory:' AS y
ATTACH DATABASE 'file:x?mode=memory' AS y
DETACH main
VACUUM
VACUUM INTO 'copy.db'
vacuum main
/* a */ VACUUM INTO 'x'
VACUUM INTO ('a' || 'b')
-- # code and files by function
SELECT load_extension('x')
SELECT load_extension('x', 'y')
SELECT readfile('/etc/passwd')
SELECT writefile('x', 'y')
SELECT edit('x')
SELECT fts3_tokenizer('simple')
SELECT fts3_tokenizer('simple', x'00')
SELECT sqlite_compileoption_get(0)
SELECT sqlite_compileoption_used('X')
SELECT sqlite_source_id()
SELECT sqlite_version()
SELECT sqlite_offset(a) FROM t
SELECT sqlite_log(1, 'x')
SELECT fts5_source_id()
SELECT sqlite_rename_table('main', 'table', 't', 'x', 't', 'y', 0)
CREATE VIEW bad AS SELECT load_extension('x'); SELECT * FROM bad
SELECT * FROM t WHERE sqlite_version() > '1'
INSERT INTO t (a) VALUES (sqlite_version())
SELECT offsets(t) FROM t
-- # pragmas
PRAGMA journal_mode
PRAGMA journal_mode = DELETE
PRAGMA main.journal_mode = OFF
PRAGMA page_size = 512
PRAGMA page_size(8192)
PRAGMA locking_mode = EXCLUSIVE
PRAGMA writable_schema = 1
PRAGMA writable_schema = RESET
PRAGMA trusted_schema = 1
PRAGMA synchronous = OFF
PRAGMA wal_checkpoint
PRAGMA wal_checkpoint(TRUNCATE)
PRAGMA wal_autocheckpoint = 1
PRAGMA mmap_size = 1000000000
PRAGMA cache_size = -1000000
PRAGMA cache_spill = 0
PRAGMA temp_store = FILE
PRAGMA temp_store_directory = '/'
PRAGMA data_store_directory = '/'
PRAGMA auto_vacuum = FULL
PRAGMA incremental_vacuum
PRAGMA user_version = 7
PRAGMA application_id = 7
PRAGMA schema_version = 7
PRAGMA encoding = 'UTF-16'
PRAGMA max_page_count = 1
PRAGMA secure_delete = 1
PRAGMA query_only = 0
PRAGMA read_uncommitted = 1
PRAGMA busy_timeout = 1000000
PRAGMA threads = 8
PRAGMA soft_heap_limit = 1
PRAGMA hard_heap_limit = 1
PRAGMA analysis_limit = 1
PRAGMA automatic_index = 0
PRAGMA checkpoint_fullfsync = 0
PRAGMA fullfsync = 0
PRAGMA shrink_memory
PRAGMA compile_options
PRAGMA database_list
PRAGMA function_list
PRAGMA module_list
PRAGMA pragma_list
PRAGMA collation_list
PRAGMA integrity_check
PRAGMA key = 'x'
PRAGMA nonsense
PRAGMA nonsense = 1
PRAGMA foreign_keys = 2
PRAGMA case_sensitive_like = 'x'
PRAGMA optimize = 'x'
PRAGMA data_version = 1
PRAGMA table_info(_verge_secret)
PRAGMA table_xinfo('_CF_KV')
PRAGMA index_list(_verge_secret)
SELECT * FROM pragma_compile_options
SELECT * FROM pragma_database_list()
SELECT * FROM pragma_table_info('_verge_secret')
SELECT * FROM pragma_journal_mode
SELECT m.name, p.* FROM sqlite_master m, pragma_table_info(m.name) p
-- # the schema
INSERT INTO sqlite_master VALUES ('table', 'x', 'x', 2, 'CREATE TABLE x (a)')
UPDATE sqlite_master SET sql = ''
DELETE FROM sqlite_schema
DROP TABLE sqlite_master
DROP TABLE sqlite_sequence
CREATE TABLE sqlite_mine (a)
CREATE TABLE "SQLITE_mine" (a)
CREATE INDEX sqlite_i ON t (b)
ALTER TABLE t RENAME TO sqlite_x
CREATE TRIGGER g AFTER INSERT ON sqlite_master BEGIN SELECT 1; END
-- # pages, internals
SELECT * FROM sqlite_dbpage
SELECT count(*) FROM sqlite_dbpage
SELECT pgno FROM main.sqlite_dbpage('main')
UPDATE sqlite_dbpage SET data = x'00' WHERE pgno = 1
INSERT INTO sqlite_dbpage VALUES (1, x'00', 'main')
SELECT * FROM dbstat
SELECT * FROM DBSTAT
SELECT * FROM sqlite_stmt
SELECT * FROM bytecode('SELECT 1')
SELECT * FROM tables_used('SELECT 1')
SELECT * FROM carray(1, 2)
CREATE VIRTUAL TABLE x USING sqlite_dbpage
CREATE VIRTUAL TABLE x USING dbstat
CREATE VIRTUAL TABLE x USING csv(filename='/etc/passwd')
CREATE VIRTUAL TABLE x USING fts3(a)
CREATE VIRTUAL TABLE x USING fts4(a)
CREATE VIRTUAL TABLE x USING nothing(a)
-- # temporary tables
CREATE TEMP TABLE x (a)
CREATE TABLE temp.x (a)
CREATE TEMPORARY VIEW x AS SELECT 1
CREATE TEMP TRIGGER g AFTER INSERT ON t BEGIN SELECT 1; END
-- # reserved names, in any case and quote
SELECT * FROM _verge_secret
SELECT * FROM _VERGE_SECRET
SELECT count(*) FROM "_verge_secret"
SELECT 1 FROM `_verge_secret`
SELECT * FROM main.[_verge_secret]
SELECT v FROM _cf_kv
SELECT (SELECT v FROM _cf_KV)
SELECT * FROM t WHERE EXISTS (SELECT 1 FROM _verge_secret)
SELECT * FROM t UNION ALL SELECT k, v, 1 FROM _verge_secret
WITH x AS (SELECT * FROM _verge_secret) SELECT 1 FROM x
INSERT INTO _verge_secret VALUES (1, 2)
INSERT INTO t (a) SELECT v FROM _verge_secret
INSERT OR REPLACE INTO _cf_KV VALUES (1, 2)
UPDATE _verge_secret SET v = 1
UPDATE t SET a = (SELECT v FROM _verge_secret)
UPDATE t SET a = s.v FROM _verge_secret s
DELETE FROM _verge_secret
DELETE FROM t WHERE a IN (SELECT v FROM _verge_secret)
DROP TABLE _verge_secret
DROP TABLE IF EXISTS "_Cf_kv"
CREATE TABLE _verge_x (a)
CREATE TABLE _CF_x (a)
CREATE TABLE IF NOT EXISTS "_Verge_x" (a)
CREATE TABLE _verge_x AS SELECT 1
CREATE VIEW _verge_x AS SELECT 1
CREATE INDEX _verge_i ON t (a)
CREATE INDEX i ON _verge_secret (k)
CREATE TRIGGER _verge_g AFTER INSERT ON t BEGIN SELECT 1; END
CREATE TRIGGER g AFTER INSERT ON _verge_secret BEGIN SELECT 1; END
CREATE VIRTUAL TABLE _verge_f USING fts5(a)
CREATE VIRTUAL TABLE _cf USING fts5(a)
CREATE VIRTUAL TABLE _verge USING rtree(id, a, b)
ALTER TABLE t RENAME TO _verge_x
ALTER TABLE t RENAME TO "_VERGE_x"
ALTER TABLE t RENAME TO [_Cf_x]
ALTER TABLE t RENAME TO `_cf_x`
ALTER TABLE t RENAME TO '_cf_x'
ALTER TABLE t /* x */ RENAME /* y */ TO -- z
ALTER TABLE _verge_secret RENAME TO mine
ALTER TABLE _verge_secret ADD COLUMN x
ALTER TABLE _verge_secret DROP COLUMN v
ALTER TABLE _verge_secret RENAME COLUMN v TO x
-- # what SQLite's own shadow tables hold
CREATE TABLE x (a, FOREIGN KEY (a) REFERENCES t (id)) STRICT, WITHOUT
-- # more than one statement
SELECT 1; DROP TABLE _verge_secret
SELECT 1; COMMIT
