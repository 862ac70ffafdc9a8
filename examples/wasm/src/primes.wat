;; count(limit): how many primes there are up to and including limit, by trial division.
(module
  (func (export "count") (param $limit i32) (result i32)
    (local $n i32) (local $d i32) (local $found i32)
    (local.set $n (i32.const 2))
    (block $done
      (loop $next
        (br_if $done (i32.gt_s (local.get $n) (local.get $limit)))
        (local.set $d (i32.const 2))
        (block $composite
          (block $prime
            (loop $divide
              (br_if $prime (i32.gt_s (i32.mul (local.get $d) (local.get $d)) (local.get $n)))
              (br_if $composite (i32.eqz (i32.rem_s (local.get $n) (local.get $d))))
              (local.set $d (i32.add (local.get $d) (i32.const 1)))
              (br $divide)))
          (local.set $found (i32.add (local.get $found) (i32.const 1))))
        (local.set $n (i32.add (local.get $n) (i32.const 1)))
        (br $next)))
    (local.get $found)))
