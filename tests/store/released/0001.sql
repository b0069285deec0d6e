BEGIN TRANSACTION;
CREATE TABLE axtx_alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT axtx_alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "axtx_alembic_version" VALUES('0001');
CREATE TABLE axtx_analyses (
	experiment VARCHAR(100) NOT NULL, 
	position INTEGER NOT NULL, 
	name VARCHAR(250) NOT NULL, 
	title TEXT NOT NULL, 
	subtitle TEXT NOT NULL, 
	section TEXT NOT NULL, 
	kind VARCHAR(20) NOT NULL, 
	html TEXT NOT NULL, 
	data TEXT NOT NULL, 
	created_at DOUBLE NOT NULL, 
	CONSTRAINT pk_axtx_analyses PRIMARY KEY (experiment, position), 
	CONSTRAINT fk_axtx_analyses_axtx_experiments FOREIGN KEY(experiment) REFERENCES axtx_experiments (name)
);
CREATE TABLE axtx_experiments (
	name VARCHAR(100) NOT NULL, 
	uid VARCHAR(32) NOT NULL, 
	spec TEXT NOT NULL, 
	generator_state TEXT, 
	version INTEGER NOT NULL, 
	lease_owner VARCHAR(250), 
	lease_expires_at DOUBLE, 
	ax_version VARCHAR(50) NOT NULL, 
	created_at DOUBLE NOT NULL, 
	stop_reason TEXT, 
	stopped_at DOUBLE, 
	planned_trials INTEGER, 
	CONSTRAINT pk_axtx_experiments PRIMARY KEY (name), 
	CONSTRAINT uq_axtx_experiments_uid UNIQUE (uid)
);
INSERT INTO "axtx_experiments" VALUES('Dígits ''quoted'' "☃" 100 %','9c57cea3f93d49ae819c4739c888d2ee','{"name": "digits", "parameters": [{"name": "x", "bounds": [0.0, 1.0]}], "objective": "-loss"}','{"next": 6}',1,NULL,NULL,'',1.7955609980112934112e+09,NULL,NULL,NULL);
INSERT INTO "axtx_experiments" VALUES('digits','7ec952146098444d87a4f9c22eaf3717','{"name": "digits", "parameters": [{"name": "x", "bounds": [0.0, 1.0]}], "objective": "-loss"}','{"next": 2}',1,NULL,NULL,'',1795560998.96057,'search space exhausted',1.79556099910266184801e+09,NULL);
CREATE TABLE axtx_loops (
	experiment VARCHAR(100) NOT NULL, 
	loop_key VARCHAR(250) NOT NULL, 
	max_tries INTEGER NOT NULL, 
	started_at DOUBLE NOT NULL, 
	stop_reason TEXT, 
	CONSTRAINT pk_axtx_loops PRIMARY KEY (experiment, loop_key)
);
CREATE TABLE axtx_observations (
	experiment VARCHAR(100) NOT NULL, 
	trial_index INTEGER NOT NULL, 
	position INTEGER NOT NULL, 
	metric VARCHAR(250) NOT NULL, 
	mean BLOB NOT NULL, 
	sem BLOB, 
	step BLOB, 
	CONSTRAINT pk_axtx_observations PRIMARY KEY (experiment, trial_index, position), 
	CONSTRAINT uq_axtx_observations_experiment_trial_index_metric_step UNIQUE (experiment, trial_index, metric, step), 
	CONSTRAINT fk_axtx_observations_axtx_trials FOREIGN KEY(experiment, trial_index) REFERENCES axtx_trials (experiment, trial_index)
);
INSERT INTO "axtx_observations" VALUES('Dígits ''quoted'' "☃" 100 %',0,0,'Loss',1.79769313486231562234e+308,NULL,NULL);
INSERT INTO "axtx_observations" VALUES('Dígits ''quoted'' "☃" 100 %',0,1,'loss',3.33333333333333314829e-01,NULL,1.0);
INSERT INTO "axtx_observations" VALUES('Dígits ''quoted'' "☃" 100 %',0,2,'loss',3.00000000000000044408e-01,4.94065645841247e-324,NULL);
CREATE TABLE axtx_runs (
	experiment VARCHAR(100) NOT NULL, 
	trial_index INTEGER NOT NULL, 
	attempt INTEGER NOT NULL, 
	submission_key VARCHAR(100) NOT NULL, 
	claim VARCHAR(32) NOT NULL, 
	scheduler VARCHAR(250) NOT NULL, 
	tracker_base TEXT NOT NULL, 
	app_handle TEXT, 
	requested_at DOUBLE NOT NULL, 
	submitted_at DOUBLE, 
	finished_at DOUBLE, 
	cancel_requested_at DOUBLE, 
	cancel_reason TEXT, 
	app_state VARCHAR(20), 
	message TEXT, 
	unseen_polls INTEGER NOT NULL, 
	infrastructure BOOLEAN NOT NULL, 
	cpus INTEGER NOT NULL, 
	gpus INTEGER NOT NULL, 
	dag_id VARCHAR(250) NOT NULL, 
	run_id VARCHAR(250) NOT NULL, 
	task_id VARCHAR(250) NOT NULL, 
	map_index INTEGER NOT NULL, 
	try_number INTEGER NOT NULL, 
	max_tries INTEGER NOT NULL, 
	torchx_conn_id VARCHAR(250) NOT NULL, 
	CONSTRAINT pk_axtx_runs PRIMARY KEY (experiment, trial_index, attempt), 
	CONSTRAINT uq_axtx_runs_submission_key UNIQUE (submission_key), 
	CONSTRAINT fk_axtx_runs_axtx_trials FOREIGN KEY(experiment, trial_index) REFERENCES axtx_trials (experiment, trial_index)
);
INSERT INTO "axtx_runs" VALUES('Dígits ''quoted'' "☃" 100 %',0,1,'d-gits-quoted-100-4e07675840-t0-a1','2d1ab6aa9cb74d7f87e22ecfab33fccc','local_detached','/results/d-gits-quoted-100-4e07675840-t0-a1','slurm://torchx/17',1.79556099811484646796e+09,1.79556099817932534211e+09,1.79556099824011254316e+09,NULL,NULL,'SUCCEEDED','',0,0,0,0,'dag','manual__1','submit',3,2,1,'torchx_default');
INSERT INTO "axtx_runs" VALUES('Dígits ''quoted'' "☃" 100 %',1,1,'d-gits-quoted-100-4e07675840-t1-a1','ced3e5963b3942368351b0d666a083bf','local_detached','/results/d-gits-quoted-100-4e07675840-t1-a1','local_docker://torchx/a',1.79556099839425873754e+09,1.79556099847489428512e+09,1.79556099852696394916e+09,NULL,NULL,'FAILED','lost:
the container is gone \ ''',1,1,0,0,'dag','manual__1','submit',3,2,1,'torchx_default');
INSERT INTO "axtx_runs" VALUES('Dígits ''quoted'' "☃" 100 %',1,2,'d-gits-quoted-100-4e07675840-t1-a2','9e27cdf30e9547c182836af590f762dc','local_detached','/results/d-gits-quoted-100-4e07675840-t1-a2',NULL,1.79556099854443216318e+09,NULL,NULL,NULL,NULL,NULL,NULL,0,0,0,0,'dag','manual__1','submit',3,2,1,'torchx_default');
INSERT INTO "axtx_runs" VALUES('Dígits ''quoted'' "☃" 100 %',2,1,'d-gits-quoted-100-4e07675840-t2-a1','37120f937a6e4622aac01974691a4363','local_detached','/results/d-gits-quoted-100-4e07675840-t2-a1','local_detached://torchx/b',1.79556099856279730801e+09,1.7955609986691615581e+09,1.79556099874202156063e+09,1.79556099872137975691e+09,'timeout after 60 s','CANCELLED','',0,0,0,0,'dag','manual__1','submit',3,2,1,'torchx_default');
INSERT INTO "axtx_runs" VALUES('Dígits ''quoted'' "☃" 100 %',4,1,'d-gits-quoted-100-4e07675840-t4-a1','5e017423ea454d7db0d7f1c68d3178a9','local_detached','/results/d-gits-quoted-100-4e07675840-t4-a1','kubernetes://torchx/trials:c',1.79556099891656446455e+09,1.79556099895179533962e+09,NULL,NULL,NULL,NULL,NULL,0,0,0,0,'dag','manual__1','submit',3,2,1,'torchx_default');
CREATE TABLE axtx_trials (
	experiment VARCHAR(100) NOT NULL, 
	trial_index INTEGER NOT NULL, 
	arm_name VARCHAR(250) NOT NULL, 
	parameters TEXT NOT NULL, 
	status VARCHAR(20) NOT NULL, 
	generation_node VARCHAR(250), 
	generation TEXT NOT NULL, 
	origin VARCHAR(20) NOT NULL, 
	request_key VARCHAR(250), 
	dag_run VARCHAR(100), 
	reason TEXT, 
	evidence TEXT, 
	created_at DOUBLE NOT NULL, 
	updated_at DOUBLE NOT NULL, 
	completed_at DOUBLE, 
	CONSTRAINT pk_axtx_trials PRIMARY KEY (experiment, trial_index), 
	CONSTRAINT uq_axtx_trials_experiment_request_key UNIQUE (experiment, request_key), 
	CONSTRAINT fk_axtx_trials_axtx_experiments FOREIGN KEY(experiment) REFERENCES axtx_experiments (name)
);
INSERT INTO "axtx_trials" VALUES('Dígits ''quoted'' "☃" 100 %',0,'0_0','{"x": 0.0, "kind": "a"}','COMPLETED','Sobol','{"type": "RUN"}','generated','dag/run/generate/-1#0','dag',NULL,NULL,1.79556099804852628705e+09,1.79556099830468320847e+09,1.79556099830468320847e+09);
INSERT INTO "axtx_trials" VALUES('Dígits ''quoted'' "☃" 100 %',1,'1_0','{"x": 0.14285714285714285, "kind": "a"}','RUNNING','Sobol','{"type": "RUN"}','generated','dag/run/generate/-1#1','dag',NULL,NULL,1.79556099804852628705e+09,1.79556099847538924219e+09,NULL);
INSERT INTO "axtx_trials" VALUES('Dígits ''quoted'' "☃" 100 %',2,'2_0','{"x": 0.2857142857142857, "kind": "a"}','ABANDONED','Sobol','{"type": "RUN"}','generated','dag/run/generate/-1#2','dag','timeout after 60 s',NULL,1.79556099804852628705e+09,1.79556099879331445686e+09,1.79556099879331445686e+09);
INSERT INTO "axtx_trials" VALUES('Dígits ''quoted'' "☃" 100 %',3,'3_0','{"x": 0.42857142857142855, "kind": "a"}','FAILED','Sobol','{"type": "RUN"}','generated','dag/run/generate/-1#3','dag','loss is NaN','{"loss/mean": "NaN"}',1.79556099804852628705e+09,1.79556099882587552065e+09,1.79556099882587552065e+09);
INSERT INTO "axtx_trials" VALUES('Dígits ''quoted'' "☃" 100 %',4,'4_0','{"x": 0.5714285714285714, "kind": "a"}','RUNNING','Sobol','{"type": "RUN"}','generated','dag/run/generate/-1#4','dag',NULL,NULL,1.79556099804852628705e+09,1.79556099895215559008e+09,NULL);
INSERT INTO "axtx_trials" VALUES('Dígits ''quoted'' "☃" 100 %',5,'5_0','{"x": 0.7142857142857143, "kind": "a"}','CANDIDATE','Sobol','{"type": "RUN"}','generated','dag/run/generate/-1#5','dag',NULL,NULL,1.79556099804852628705e+09,1.79556099804852628705e+09,NULL);
INSERT INTO "axtx_trials" VALUES('digits',0,'0_0','{"x": 0.0, "kind": "a"}','CANDIDATE','Sobol','{"type": "RUN"}','generated','dag/manual__2/generate/-1#0','dag',NULL,NULL,1.79556099902779364588e+09,1.79556099902779364588e+09,NULL);
INSERT INTO "axtx_trials" VALUES('digits',1,'1_0','{"x": 0.14285714285714285, "kind": "a"}','CANDIDATE','Sobol','{"type": "RUN"}','generated','dag/manual__2/generate/-1#1','dag',NULL,NULL,1.79556099902779364588e+09,1.79556099902779364588e+09,NULL);
CREATE INDEX ix_axtx_trials_experiment_status_updated_at ON axtx_trials (experiment, status, updated_at);
CREATE INDEX ix_axtx_trials_dag_run_status ON axtx_trials (dag_run, status);
CREATE INDEX ix_axtx_runs_finished_at ON axtx_runs (finished_at);
CREATE INDEX ix_axtx_runs_dag_id_run_id ON axtx_runs (dag_id, run_id);
COMMIT;
