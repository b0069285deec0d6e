BEGIN TRANSACTION;
CREATE TABLE axtx_alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT axtx_alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "axtx_alembic_version" VALUES('0002');
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
INSERT INTO "axtx_analyses" VALUES('digits',0,'Summary','Dígits','','["All"]','table','<p>☃ ''1''</p>','{"columns": ["trial_index", "loss"], "data": [[0, 0.30000000000000004], [1, null]]}',1795645730.88347);
CREATE TABLE axtx_dag_runs (
	dag_run VARCHAR(100) NOT NULL, 
	generation INTEGER NOT NULL, 
	started_at DOUBLE NOT NULL, 
	clear_number INTEGER NOT NULL, 
	CONSTRAINT pk_axtx_dag_runs PRIMARY KEY (dag_run)
);
INSERT INTO "axtx_dag_runs" VALUES('dag-d45a2919f41c2ce8',0,1700000000.25,1);
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
	planned_trials INTEGER, created_by TEXT, app TEXT, 
	CONSTRAINT pk_axtx_experiments PRIMARY KEY (name), 
	CONSTRAINT uq_axtx_experiments_uid UNIQUE (uid)
);
INSERT INTO "axtx_experiments" VALUES('Dígits 100 +~.:@=,x','07793574e7d5407ab0bcf722e3858f80','{"name": "digits", "parameters": [{"name": "x", "bounds": [0.0, 1.0]}], "objective": "-loss"}','{"next": 6}',1,NULL,NULL,'',1.79564573060489964485e+09,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "axtx_experiments" VALUES('digits','39e5b973e51741ef89f5108e3c2805b0','{"name": "digits", "parameters": [{"name": "x", "bounds": [0.0, 1.0]}], "objective": "-loss"}','{"next": 2}',1,NULL,NULL,'',1.79564573079627680775e+09,'max_trials: the experiment has 2 trials',1.7956457308694725037e+09,10,NULL,'{"component": "utils.booth", "component_args": {}, "scheduler": "slurm"}');
CREATE TABLE axtx_loops (
	experiment VARCHAR(100) NOT NULL, 
	loop_key VARCHAR(250) NOT NULL, 
	max_tries INTEGER NOT NULL, 
	started_at DOUBLE NOT NULL, 
	stop_reason TEXT, definition TEXT, 
	CONSTRAINT pk_axtx_loops PRIMARY KEY (experiment, loop_key)
);
INSERT INTO "axtx_loops" VALUES('digits','dag/manual__2/tune/-1',2,1795645730.8575,'max_trials: the experiment has 2 trials',NULL);
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
INSERT INTO "axtx_observations" VALUES('Dígits 100 +~.:@=,x',0,0,'Loss',1.79769313486231562234e+308,NULL,NULL);
INSERT INTO "axtx_observations" VALUES('Dígits 100 +~.:@=,x',0,1,'loss',3.33333333333333314829e-01,NULL,1.0);
INSERT INTO "axtx_observations" VALUES('Dígits 100 +~.:@=,x',0,2,'loss',3.00000000000000044408e-01,4.94065645841247e-324,NULL);
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
	torchx_conn_id VARCHAR(250) NOT NULL, installation VARCHAR(250) DEFAULT '' NOT NULL, lookup_options TEXT, host VARCHAR(250), started_at DOUBLE, ended_at DOUBLE, poll_failures INTEGER DEFAULT '0' NOT NULL, 
	CONSTRAINT pk_axtx_runs PRIMARY KEY (experiment, trial_index, attempt), 
	CONSTRAINT uq_axtx_runs_submission_key UNIQUE (submission_key), 
	CONSTRAINT fk_axtx_runs_axtx_trials FOREIGN KEY(experiment, trial_index) REFERENCES axtx_trials (experiment, trial_index)
);
INSERT INTO "axtx_runs" VALUES('Dígits 100 +~.:@=,x',0,1,'d-gits-100-x-f9c8688fa0-t0-a1','79f3d35c2b8e480b9aba563bfe505c7f','local_detached','/results/d-gits-100-x-f9c8688fa0-t0-a1','slurm://torchx/17',1795645730.64489,1.79564573065618729593e+09,1.79564573066811394687e+09,NULL,NULL,'SUCCEEDED','',0,0,0,0,'dag','manual__1','submit',3,2,1,'torchx_default','',NULL,NULL,NULL,NULL,0);
INSERT INTO "axtx_runs" VALUES('Dígits 100 +~.:@=,x',1,1,'d-gits-100-x-f9c8688fa0-t1-a1','e390804d26054a6e9d95ee41a97dee42','local_detached','/results/d-gits-100-x-f9c8688fa0-t1-a1','local_docker://torchx/a',1.79564573068697142608e+09,1.79564573068955373761e+09,1.79564573070917344091e+09,NULL,NULL,'FAILED','lost:
the container is gone \ ''',1,1,0,0,'dag','manual__1','submit',3,2,1,'torchx_default','',NULL,NULL,NULL,NULL,0);
INSERT INTO "axtx_runs" VALUES('Dígits 100 +~.:@=,x',1,2,'d-gits-100-x-f9c8688fa0-t1-a2','6940c26fcf7e439c88cf030f69b87027','local_detached','/results/d-gits-100-x-f9c8688fa0-t1-a2',NULL,1.79564573072019886975e+09,NULL,NULL,NULL,NULL,NULL,NULL,0,0,0,0,'dag','manual__1','submit',3,2,1,'torchx_default','',NULL,NULL,NULL,NULL,0);
INSERT INTO "axtx_runs" VALUES('Dígits 100 +~.:@=,x',2,1,'d-gits-100-x-f9c8688fa0-t2-a1','80c7c8d9747648d7b4134e58bc9b4272','local_detached','/results/d-gits-100-x-f9c8688fa0-t2-a1','local_detached://torchx/b',1.79564573072928833959e+09,1.7956457307353110314e+09,1795645730.75533,1.79564573074897027016e+09,'timeout after 60 s','CANCELLED','',0,0,0,0,'dag','manual__1','submit',3,2,1,'torchx_default','',NULL,NULL,NULL,NULL,0);
INSERT INTO "axtx_runs" VALUES('Dígits 100 +~.:@=,x',4,1,'d-gits-100-x-f9c8688fa0-t4-a1','5d5f7fb84e204cac9ebc60537ba9f5ae','local_detached','/results/d-gits-100-x-f9c8688fa0-t4-a1','kubernetes://torchx/trials:c',1.7956457307800729275e+09,1.79564573078610563274e+09,NULL,NULL,NULL,NULL,NULL,0,0,0,0,'dag','manual__1','submit',3,2,1,'torchx_default','',NULL,NULL,NULL,NULL,0);
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
	completed_at DOUBLE, requested_by TEXT, 
	CONSTRAINT pk_axtx_trials PRIMARY KEY (experiment, trial_index), 
	CONSTRAINT uq_axtx_trials_experiment_request_key UNIQUE (experiment, request_key), 
	CONSTRAINT fk_axtx_trials_axtx_experiments FOREIGN KEY(experiment) REFERENCES axtx_experiments (name)
);
INSERT INTO "axtx_trials" VALUES('Dígits 100 +~.:@=,x',0,'0_0','{"x": 0.0, "kind": "a"}','COMPLETED','Sobol','{"type": "RUN"}','generated','dag/run/generate/-1#0','dag',NULL,NULL,1.79564573062459850315e+09,1795645730.67269,1795645730.67269,NULL);
INSERT INTO "axtx_trials" VALUES('Dígits 100 +~.:@=,x',1,'1_0','{"x": 0.14285714285714285, "kind": "a"}','RUNNING','Sobol','{"type": "RUN"}','generated','dag/run/generate/-1#1','dag',NULL,NULL,1.79564573062459850315e+09,1.79564573069341635704e+09,NULL,NULL);
INSERT INTO "axtx_trials" VALUES('Dígits 100 +~.:@=,x',2,'2_0','{"x": 0.2857142857142857, "kind": "a"}','ABANDONED','Sobol','{"type": "RUN"}','generated','dag/run/generate/-1#2','dag','timeout after 60 s',NULL,1.79564573062459850315e+09,1.79564573076605033877e+09,1.79564573076605033877e+09,NULL);
INSERT INTO "axtx_trials" VALUES('Dígits 100 +~.:@=,x',3,'3_0','{"x": 0.42857142857142855, "kind": "a"}','FAILED','Sobol','{"type": "RUN"}','generated','dag/run/generate/-1#3','dag','loss is NaN','{"loss/mean": "NaN"}',1.79564573062459850315e+09,1.79564573077124381072e+09,1.79564573077124381072e+09,NULL);
INSERT INTO "axtx_trials" VALUES('Dígits 100 +~.:@=,x',4,'4_0','{"x": 0.5714285714285714, "kind": "a"}','RUNNING','Sobol','{"type": "RUN"}','generated','dag/run/generate/-1#4','dag',NULL,NULL,1.79564573062459850315e+09,1.79564573078627347951e+09,NULL,NULL);
INSERT INTO "axtx_trials" VALUES('Dígits 100 +~.:@=,x',5,'5_0','{"x": 0.7142857142857143, "kind": "a"}','CANDIDATE','Sobol','{"type": "RUN"}','generated','dag/run/generate/-1#5','dag',NULL,NULL,1.79564573062459850315e+09,1.79564573062459850315e+09,NULL,NULL);
INSERT INTO "axtx_trials" VALUES('digits',0,'0_0','{"x": 0.0, "kind": "a"}','CANDIDATE','Sobol','{"type": "RUN"}','generated','dag/manual__2/generate/-1#0','dag',NULL,NULL,1.79564573080480790133e+09,1.79564573080480790133e+09,NULL,NULL);
INSERT INTO "axtx_trials" VALUES('digits',1,'1_0','{"x": 0.14285714285714285, "kind": "a"}','CANDIDATE','Sobol','{"type": "RUN"}','generated','dag/manual__2/generate/-1#1','dag',NULL,NULL,1.79564573080480790133e+09,1.79564573080480790133e+09,NULL,NULL);
CREATE INDEX ix_axtx_trials_experiment_status_updated_at ON axtx_trials (experiment, status, updated_at);
CREATE INDEX ix_axtx_trials_status_dag_run ON axtx_trials (status, dag_run);
CREATE INDEX ix_axtx_runs_finished_at ON axtx_runs (finished_at);
CREATE INDEX ix_axtx_runs_dag_id_run_id ON axtx_runs (dag_id, run_id);
CREATE INDEX ix_axtx_loops_loop_key ON axtx_loops (loop_key);
COMMIT;
