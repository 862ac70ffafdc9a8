-- # reads
SELECT 1
SELECT 'it''s', "a", [a], `a` FROM t
SELECT * FROM t
SELECT * FROM main.t
SELECT count(*) FROM t
SELECT t.*, u.* FROM t LEFT JOIN u ON u.t_id = t.id
SELECT * FROM t CROSS JOIN u
SELECT a, count(*) FROM t GROUP BY a HAVING count(*) > 0 ORDER BY a DESC LIMIT 5 OFFSET 1
SELECT DISTINCT a FROM t
SELECT * FROM v
SELECT * FROM t WHERE a IN ('x', 'y') AND b BETWEEN 1 AND 3
SELECT * FROM t WHERE a LIKE 'x%' OR a GLOB 'x*'
SELECT * FROM t WHERE id = (SELECT max(id) FROM t)
SELECT CASE WHEN a = 'x' THEN 1 ELSE 2 END FROM t
WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n LIMIT 10) SELECT sum(x) FROM n
WITH a AS MATERIALIZED (SELECT 1 AS x) SELECT * FROM a
SELECT 1 UNION SELECT 2 EXCEPT SELECT 3 INTERSECT SELECT 1
VALUES (1, 2), (3, 4)
SELECT * FROM t INDEXED BY ta WHERE a = 'x'
SELECT row_number() OVER (ORDER BY id), rank() OVER (PARTITION BY a ORDER BY id) FROM t
SELECT lag(a) OVER w, lead(a, 1, 'z') OVER w, ntile(2) OVER w FROM t WINDOW w AS (ORDER BY id)
SELECT first_value(a) OVER (ORDER BY id ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) FROM t
SELECT sum(b) FILTER (WHERE b > 1), avg(b), total(b), group_concat(a, ';') FROM t
SELECT string_agg(a, ',') FROM t
SELECT '_verge_secret', '_cf_KV'
SELECT a AS _verge_alias FROM t
EXPLAIN SELECT * FROM t
EXPLAIN QUERY PLAN SELECT * FROM t WHERE a = 'x'
-- # functions
SELECT abs(-1), char(65), coalesce(NULL, 1), concat('a', 1), concat_ws('-', 'a', 'b')
SELECT format('%d %s', 1, 'x'), printf('%05d', 3), hex('a'), unhex('41'), ifnull(NULL, 2)
SELECT iif(1, 2, 3), instr('abc', 'b'), length('é'), octet_length('é'), lower('A'), upper('a')
SELECT ltrim(' a'), rtrim('a '), trim(' a '), max(1, 2), min(1, 2), nullif(1, 1), quote('x')
SELECT random() IS NOT NULL, length(randomblob(8)), replace('a', 'a', 'b'), round(1.234, 2)
SELECT sign(-3), soundex('x'), substr('abc', 2), substring('abc', 1, 2), typeof(1), unicode('a')
SELECT likely(1), unlikely(0), likelihood(1, 0.5), zeroblob(4), changes(), total_changes()
SELECT last_insert_rowid()
SELECT date('now'), time('now'), datetime('now'), julianday('now'), unixepoch(), strftime('%Y', 'now')
SELECT timediff('2024-01-02', '2024-01-01'), CURRENT_TIMESTAMP, CURRENT_DATE, CURRENT_TIME
SELECT cast('12' AS INTEGER), cast(1 AS TEXT), cast('x' AS BLOB)
SELECT 1 COLLATE NOCASE = '1', 'a' || 'b', 1 << 3, ~1, 7 % 4, 1 IS NOT 2, NOT 1
-- # JSON
SELECT json('{"a":1}'), json_array(1, 2), json_object('a', 1), json_quote('x'), json_valid('{}')
SELECT json_extract('{"a":[1,2]}', '$.a[1]'), '{"a":1}' -> 'a', '{"a":1}' ->> '$.a'
SELECT json_insert('{}', '$.a', 1), json_set('{}', '$.a', 1), json_replace('{"a":1}', '$.a', 2)
SELECT json_remove('{"a":1}', '$.a'), json_patch('{}', '{"a":1}'), json_type('[1]', '$[0]')
SELECT json_array_length('[1,2]'), json_error_position('{'), json_pretty('{"a":1}')
SELECT key, value FROM json_each('[1,2,3]')
SELECT fullkey, atom FROM json_tree('{"a":{"b":1}}')
SELECT json_group_array(a), json_group_object(a, b) FROM t
SELECT jsonb('{}'), jsonb_array(1), jsonb_extract('{"a":1}', '$.a'), jsonb_set('{}', '$.a', 1)
SELECT * FROM t, json_each('[1]') j WHERE j.value = t.id
-- # the schema, read
SELECT name, sql FROM sqlite_master
SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name
SELECT * FROM sqlite_sequence
PRAGMA table_list
PRAGMA table_list(t)
PRAGMA table_info(t)
PRAGMA table_info('t')
PRAGMA table_xinfo("t")
PRAGMA index_list(t)
PRAGMA index_info(ta)
PRAGMA index_xinfo(ta)
PRAGMA foreign_key_list(u)
PRAGMA foreign_key_check
PRAGMA foreign_key_check(u)
PRAGMA quick_check
PRAGMA quick_check(5)
PRAGMA quick_check(t)
PRAGMA case_sensitive_like = ON
PRAGMA case_sensitive_like = off
PRAGMA ignore_check_constraints = 0
PRAGMA legacy_alter_table = false
PRAGMA recursive_triggers = no
PRAGMA reverse_unordered_selects = 1
PRAGMA foreign_keys
PRAGMA foreign_keys = on
PRAGMA defer_foreign_keys = true
PRAGMA optimize
PRAGMA optimize(0x10002)
PRAGMA page_size
SELECT name FROM pragma_table_info('t')
SELECT * FROM pragma_index_list('t')
SELECT m.name, p.name FROM sqlite_master m, pragma_table_info(m.name) p WHERE m.name = 't'
-- # writes
INSERT INTO t (a, b) VALUES ('p', 1), ('q', 2)
INSERT OR IGNORE INTO t (id, a) VALUES (1, 'x')
INSERT OR REPLACE INTO t (id, a) VALUES (1, 'x')
INSERT INTO t (id, a) VALUES (1, 'n') ON CONFLICT (id) DO UPDATE SET a = excluded.a
INSERT INTO t (a) VALUES ('r') RETURNING id, a
INSERT INTO t SELECT NULL, a, b FROM t WHERE id < 3
INSERT INTO t (a) VALUES ('_verge_secret')
INSERT INTO u (t_id) VALUES (1)
INSERT INTO u DEFAULT VALUES
UPDATE t SET a = 'k' WHERE id = 2
UPDATE t SET (a, b) = ('l', 3) WHERE id = 2 RETURNING *
UPDATE t SET b = s.n FROM (SELECT 5 AS n) s WHERE t.id = 3
DELETE FROM t WHERE id > 100 RETURNING id
REPLACE INTO t (id, a) VALUES (2, 'm')
DELETE FROM sqlite_sequence WHERE name = 'nope'
-- # schema changes
CREATE TABLE n1 (id INTEGER PRIMARY KEY, a TEXT NOT NULL DEFAULT 'x', b REAL CHECK (b > 0), c UNIQUE)
CREATE TABLE IF NOT EXISTS n1 (id)
CREATE TABLE n2 (a, b, PRIMARY KEY (a, b)) WITHOUT ROWID
CREATE TABLE n3 (a INTEGER, b TEXT) STRICT
CREATE TABLE n4 (a, b AS (a * 2) STORED, c GENERATED ALWAYS AS (a + 1) VIRTUAL)
CREATE TABLE n5 AS SELECT * FROM t
CREATE TABLE n6 (a REFERENCES n1 (id) ON DELETE CASCADE)
CREATE INDEX n1a ON n1 (a)
CREATE UNIQUE INDEX IF NOT EXISTS n1b ON n1 (b) WHERE b IS NOT NULL
CREATE INDEX n1e ON n1 (lower(a))
CREATE VIEW nv AS SELECT a FROM n1
CREATE TRIGGER ng AFTER INSERT ON n1 BEGIN UPDATE n1 SET c = new.id WHERE id = new.id; END
CREATE TRIGGER nh INSTEAD OF INSERT ON nv BEGIN INSERT INTO n1 (a) VALUES (new.a); END
INSERT INTO n1 (a, b) VALUES ('a', 1)
INSERT INTO nv VALUES ('b')
INSERT INTO n2 VALUES (1, 2), (1, 3)
INSERT INTO n4 (a) VALUES (1)
ALTER TABLE n1 ADD COLUMN d TEXT
ALTER TABLE n1 RENAME COLUMN d TO e
ALTER TABLE n1 DROP COLUMN e
ALTER TABLE n5 RENAME TO n7
ALTER TABLE n7 RENAME TO "n8 verge_cf_"
CREATE VIRTUAL TABLE f USING fts5(title, body)
INSERT INTO f VALUES ('one', 'the quick fox'), ('two', 'the lazy dog')
SELECT highlight(f, 1, '<b>', '</b>'), snippet(f, 1, '', '', '…', 3), bm25(f) FROM f WHERE f MATCH 'quick' ORDER BY rank
SELECT * FROM f('lazy')
UPDATE f SET title = 'three' WHERE rowid = 1
DELETE FROM f WHERE rowid = 2
INSERT INTO f (f) VALUES ('optimize')
CREATE VIRTUAL TABLE fv USING fts5vocab(f, 'row')
SELECT term, cnt FROM fv
CREATE VIRTUAL TABLE r USING rtree(id, minx, maxx, miny, maxy)
INSERT INTO r VALUES (1, 0, 1, 0, 1)
SELECT id FROM r WHERE minx >= 0 AND maxx <= 1
DROP TABLE r
DROP TABLE fv
DROP TABLE f
ANALYZE
ANALYZE t
SELECT * FROM sqlite_stat1
REINDEX
REINDEX t
DROP TRIGGER ng
DROP VIEW nv
DROP INDEX n1a
DROP TABLE n6
DROP TABLE IF EXISTS nope
DELETE FROM u
DROP TABLE u
