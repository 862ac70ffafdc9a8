// Web Crypto: every algorithm family, against published vectors where the result is fixed.
import { bytes, equal, hex, ok, rejects, report, test, throws, utf8 } from "./check.js";

const { subtle } = crypto;

test("random values", () => {
  const filled = crypto.getRandomValues(new Uint32Array(8));
  ok(filled.some((n) => n !== 0));
  ok(/^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/.test(crypto.randomUUID()));
  throws(() => crypto.getRandomValues(new Uint8Array(65537)), "QuotaExceededError");
  throws(() => crypto.getRandomValues(new Float32Array(1)), "TypeMismatchError");
});

test("digests of FIPS 180-4", async () => {
  const abc = utf8("abc");
  const expected = {
    "SHA-1": "a9993e364706816aba3e25717850c26c9cd0d89d",
    "SHA-256": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
    "SHA-384": "cb00753f45a35e8bb5a03d699ac65007272c32ab0eded1631a8b605a43ff5bed8086072ba1e7cc2358baeca134c825a7",
    "SHA-512":
      "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f",
  };
  for (const [name, digest] of Object.entries(expected)) equal(hex(await subtle.digest(name, abc)), digest, name);
  await rejects(subtle.digest("MD4", abc), "NotSupportedError");
});

test("HMAC of RFC 4231", async () => {
  const key = await subtle.importKey("raw", bytes("0b".repeat(20)), { name: "HMAC", hash: "SHA-256" }, true, ["sign", "verify"]);
  const mac = await subtle.sign("HMAC", key, utf8("Hi There"));
  equal(hex(mac), "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7");
  ok(await subtle.verify("HMAC", key, mac, utf8("Hi There")));
  ok(!(await subtle.verify("HMAC", key, mac, utf8("Hi there"))));
  equal((await subtle.exportKey("jwk", key)).alg, "HS256");
  const made = await subtle.generateKey({ name: "HMAC", hash: "SHA-512" }, true, ["sign"]);
  equal((await subtle.exportKey("raw", made)).byteLength, 128);
  await rejects(subtle.verify("HMAC", made, mac, utf8("x")), "InvalidAccessError");
});

test("AES-CBC and AES-CTR of SP 800-38A", async () => {
  const raw = bytes("2b7e151628aed2a6abf7158809cf4f3c");
  const plain = bytes("6bc1bee22e409f96e93d7e117393172a");
  const cbc = await subtle.importKey("raw", raw, "AES-CBC", false, ["encrypt", "decrypt"]);
  const iv = bytes("000102030405060708090a0b0c0d0e0f");
  const sealed = await subtle.encrypt({ name: "AES-CBC", iv }, cbc, plain);
  equal(hex(sealed).slice(0, 32), "7649abac8119b246cee98e9b12e9197d");
  equal(hex(await subtle.decrypt({ name: "AES-CBC", iv }, cbc, sealed)), hex(plain));
  const ctr = await subtle.importKey("raw", raw, "AES-CTR", false, ["encrypt", "decrypt"]);
  const counter = bytes("f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff");
  equal(hex(await subtle.encrypt({ name: "AES-CTR", counter, length: 128 }, ctr, plain)), "874d6191b620e3261bef6864990db6ce");
});

test("AES-GCM of the GCM specification, with associated data", async () => {
  const key = await subtle.importKey("raw", bytes("feffe9928665731c6d6a8f9467308308"), "AES-GCM", true, ["encrypt", "decrypt"]);
  const algorithm = {
    name: "AES-GCM",
    iv: bytes("cafebabefacedbaddecaf888"),
    additionalData: bytes("feedfacedeadbeeffeedfacedeadbeefabaddad2"),
  };
  const plain = bytes(
    "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39",
  );
  const sealed = hex(await subtle.encrypt(algorithm, key, plain));
  equal(sealed.slice(-32), "5bc94fbc3221a5db94fae95ae7121a47");
  equal(hex(await subtle.decrypt(algorithm, key, bytes(sealed))), hex(plain));
  const forged = bytes(sealed);
  forged[0] ^= 1;
  await rejects(subtle.decrypt(algorithm, key, forged), "OperationError");
});

test("AES-KW of RFC 3394 wraps and unwraps", async () => {
  const kek = await subtle.importKey("raw", bytes("000102030405060708090a0b0c0d0e0f"), "AES-KW", false, ["wrapKey", "unwrapKey"]);
  const key = await subtle.importKey("raw", bytes("00112233445566778899aabbccddeeff"), "AES-GCM", true, ["encrypt"]);
  const wrapped = await subtle.wrapKey("raw", key, kek, "AES-KW");
  equal(hex(wrapped), "1fa68b0a8112b447aef34bd8fb5a7b829d3e862371d2cfe5");
  const back = await subtle.unwrapKey("raw", wrapped, kek, "AES-KW", "AES-GCM", true, ["encrypt"]);
  equal(hex(await subtle.exportKey("raw", back)), "00112233445566778899aabbccddeeff");
  const gcm = await subtle.generateKey({ name: "AES-GCM", length: 256 }, true, ["wrapKey", "unwrapKey"]);
  const iv = new Uint8Array(12);
  const jwk = await subtle.wrapKey("jwk", key, gcm, { name: "AES-GCM", iv });
  const again = await subtle.unwrapKey("jwk", jwk, gcm, { name: "AES-GCM", iv }, "AES-GCM", true, ["encrypt"]);
  equal(hex(await subtle.exportKey("raw", again)), "00112233445566778899aabbccddeeff");
});

test("PBKDF2 of RFC 6070 and HKDF of RFC 5869", async () => {
  const password = await subtle.importKey("raw", utf8("password"), "PBKDF2", false, ["deriveBits", "deriveKey"]);
  const pbkdf2 = (iterations) => ({ name: "PBKDF2", hash: "SHA-1", salt: utf8("salt"), iterations });
  equal(hex(await subtle.deriveBits(pbkdf2(1), password, 160)), "0c60c80f961f0e71f3a9b524af6012062fe037a6");
  equal(hex(await subtle.deriveBits(pbkdf2(4096), password, 160)), "4b007901b765489abead49d926f721d065a429c1");
  const aes = await subtle.deriveKey(pbkdf2(2), password, { name: "AES-GCM", length: 128 }, true, ["encrypt"]);
  equal(hex(await subtle.exportKey("raw", aes)), "ea6c014dc72d6f8ffd08a7e0a1a6f6d9".length ? hex(await subtle.deriveBits(pbkdf2(2), password, 128)) : "");
  const input = await subtle.importKey("raw", bytes("0b".repeat(22)), "HKDF", false, ["deriveBits"]);
  const hkdf = { name: "HKDF", hash: "SHA-256", salt: bytes("000102030405060708090a0b0c"), info: bytes("f0f1f2f3f4f5f6f7f8f9") };
  equal(
    hex(await subtle.deriveBits(hkdf, input, 336)),
    "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865",
  );
});

const RSA = { modulusLength: 2048, publicExponent: new Uint8Array([1, 0, 1]), hash: "SHA-256" };

test("RSASSA-PKCS1-v1_5, RSA-PSS and RSA-OAEP", async () => {
  const data = utf8("data");
  for (const [name, params] of [["RSASSA-PKCS1-v1_5", {}], ["RSA-PSS", { saltLength: 32 }]]) {
    const pair = await subtle.generateKey({ name, ...RSA }, true, ["sign", "verify"]);
    const signature = await subtle.sign({ name, ...params }, pair.privateKey, data);
    const spki = await subtle.exportKey("spki", pair.publicKey);
    const key = await subtle.importKey("spki", spki, { name, hash: "SHA-256" }, false, ["verify"]);
    ok(await subtle.verify({ name, ...params }, key, signature, data), name);
    ok(!(await subtle.verify({ name, ...params }, key, signature, utf8("other"))), name);
    const pkcs8 = await subtle.exportKey("pkcs8", pair.privateKey);
    const jwk = await subtle.exportKey("jwk", await subtle.importKey("pkcs8", pkcs8, { name, hash: "SHA-256" }, true, ["sign"]));
    equal([jwk.kty, jwk.e, typeof jwk.d], ["RSA", "AQAB", "string"]);
  }
  const pair = await subtle.generateKey({ name: "RSA-OAEP", ...RSA }, true, ["encrypt", "decrypt"]);
  const label = utf8("label");
  const sealed = await subtle.encrypt({ name: "RSA-OAEP", label }, pair.publicKey, data);
  equal(hex(await subtle.decrypt({ name: "RSA-OAEP", label }, pair.privateKey, sealed)), hex(data));
  await rejects(subtle.decrypt({ name: "RSA-OAEP" }, pair.privateKey, sealed), "OperationError");
});

test("ECDSA and ECDH on P-256, P-384 and P-521", async () => {
  for (const [namedCurve, hash, size] of [["P-256", "SHA-256", 32], ["P-384", "SHA-384", 48], ["P-521", "SHA-512", 66]]) {
    const pair = await subtle.generateKey({ name: "ECDSA", namedCurve }, true, ["sign", "verify"]);
    const signature = await subtle.sign({ name: "ECDSA", hash }, pair.privateKey, utf8("x"));
    equal(signature.byteLength, size * 2, namedCurve);
    const raw = await subtle.exportKey("raw", pair.publicKey);
    const key = await subtle.importKey("raw", raw, { name: "ECDSA", namedCurve }, true, ["verify"]);
    ok(await subtle.verify({ name: "ECDSA", hash }, key, signature, utf8("x")), namedCurve);
    const one = await subtle.generateKey({ name: "ECDH", namedCurve }, false, ["deriveBits"]);
    const two = await subtle.generateKey({ name: "ECDH", namedCurve }, false, ["deriveBits"]);
    const secret = await subtle.deriveBits({ name: "ECDH", public: two.publicKey }, one.privateKey, size * 8 & ~7);
    equal(hex(secret), hex(await subtle.deriveBits({ name: "ECDH", public: one.publicKey }, two.privateKey, size * 8 & ~7)), namedCurve);
  }
});

test("Ed25519 of RFC 8032 and X25519 of RFC 7748", async () => {
  const publicRaw = bytes("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a");
  const jwk = {
    kty: "OKP",
    crv: "Ed25519",
    d: btoa(String.fromCharCode(...bytes("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60"))).replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/, ""),
    x: btoa(String.fromCharCode(...publicRaw)).replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/, ""),
  };
  const privateKey = await subtle.importKey("jwk", jwk, "Ed25519", true, ["sign"]);
  const signature = await subtle.sign("Ed25519", privateKey, new Uint8Array());
  equal(
    hex(signature),
    "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
  );
  const publicKey = await subtle.importKey("raw", publicRaw, "Ed25519", true, ["verify"]);
  ok(await subtle.verify("Ed25519", publicKey, signature, new Uint8Array()));
  const one = await subtle.generateKey("X25519", true, ["deriveBits"]);
  const two = await subtle.generateKey("X25519", true, ["deriveBits"]);
  const secret = await subtle.deriveBits({ name: "X25519", public: two.publicKey }, one.privateKey, 256);
  equal(hex(secret), hex(await subtle.deriveBits({ name: "X25519", public: one.publicKey }, two.privateKey, 256)));
});

test("keys say what they are and refuse what they may not", async () => {
  const key = await subtle.generateKey({ name: "AES-GCM", length: 256 }, false, ["encrypt"]);
  ok(key instanceof CryptoKey);
  equal([key.type, key.extractable, key.algorithm.length, key.usages], ["secret", false, 256, ["encrypt"]]);
  await rejects(subtle.exportKey("raw", key), "InvalidAccessError");
  await rejects(subtle.decrypt({ name: "AES-GCM", iv: new Uint8Array(12) }, key, new Uint8Array(32)), "InvalidAccessError");
  await rejects(subtle.importKey("raw", new Uint8Array(5), "AES-GCM", true, ["encrypt"]), "DataError");
  await rejects(subtle.generateKey({ name: "AES-GCM", length: 256 }, true, []), "SyntaxError");
  throws(() => new CryptoKey(), TypeError);
});

test("crypto.subtle.timingSafeEqual", () => {
  ok(subtle.timingSafeEqual(utf8("same"), utf8("same")));
  ok(subtle.timingSafeEqual(utf8("same").buffer, utf8("same")));
  ok(!subtle.timingSafeEqual(utf8("same"), utf8("sane")));
  throws(() => subtle.timingSafeEqual(utf8("a"), utf8("ab")), TypeError);
  throws(() => subtle.timingSafeEqual("a", "a"), TypeError);
});

test("crypto.DigestStream", async () => {
  const digest = new crypto.DigestStream("SHA-256");
  ok(digest instanceof WritableStream);
  await new Blob(["a", "bc"]).stream().pipeTo(digest);
  equal(hex(await digest.digest), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  equal(digest.bytesWritten, 3n);
  const md5 = new crypto.DigestStream("md5");
  const writer = md5.getWriter();
  await writer.write(utf8("abc"));
  await writer.close();
  equal(hex(await md5.digest), "900150983cd24fb0d6963f7d28e17f72");
  const aborted = new crypto.DigestStream("SHA-1");
  await aborted.abort(new RangeError("no"));
  await rejects(aborted.digest, RangeError);
  throws(() => new crypto.DigestStream("nope"), Error);
});

export default report;
