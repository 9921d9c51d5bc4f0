import numpy as np, time
def test_it(registry, build, tmp_path):
    from native_networks import chain, expected, phases
    x=np.random.default_rng(9).standard_normal((4,25),np.float32)
    e=build(chain(registry,6,(4,25)))
    c=e.create_context()
    y=c.execute({"x":x})["y"]
    np.testing.assert_array_equal(y, expected(x,6))
    assert all(k.native for k in e.plan.codes)
    print(e.header.requires)
    ts=[]
    for _ in range(2000):
        t=time.perf_counter(); c.execute({"x":x}); ts.append(time.perf_counter()-t)
    print("execute", sorted(ts)[1000]*1e6)
    import cProfile, pstats
    p=cProfile.Profile(); p.enable()
    for _ in range(2000): c.execute({"x":x})
    p.disable(); pstats.Stats(p).sort_stats("tottime").print_stats(25)
    e=build(phases(registry),threads=2)
    for n in (1,5,1000,70000):
        x=np.random.default_rng(9).standard_normal(n).astype(np.float32)
        np.testing.assert_array_equal(e.create_context().execute({"x":x})["y"],np.maximum(x,0))
